#!/usr/bin/env bash
# Runs two servers on one Redis for an hour, and puts the table and the pictures into docs/soak.md.
#
#   benches/soak.sh                  an hour, then the table and the pictures
#   benches/soak.sh --seconds 60     or other options of the program; the table is printed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ulimit -n "$(ulimit -Hn)"
cargo build --release -p tower-support-cache-soak
soak=${CARGO_TARGET_DIR:-target}/release/soak
if [ $# -eq 0 ]; then
    exec "$soak" --seconds 3600 --write docs/soak.md
fi
exec "$soak" "$@"
