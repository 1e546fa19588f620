#!/usr/bin/env bash
# Attacks a server with the cache and a bare one in turns, and puts the table into docs/hostile.md. About
# 5 minutes after the build.
#
#   benches/hostile.sh                        every attack, then the table
#   benches/hostile.sh --short                the attacks of the tests, at their size; the table is printed
#   benches/hostile.sh 'one cold key' ...     these attacks; the table is printed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One cold key has 5,000 connections, in two processes.
ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 8192 ] ||
    { echo "hostile.sh: at least 8192 open files are needed (ulimit -n)" >&2; exit 1; }

cargo build --release -p tower-support-cache-hostile
hostile=${CARGO_TARGET_DIR:-target}/release/hostile
if [ $# -eq 0 ]; then
    exec "$hostile" --write docs/hostile.md
fi
exec "$hostile" "$@"
