#!/usr/bin/env bash
# Measures the cache beside its peers and draws what was measured. About 12 minutes after the build, on 2 cores.
#
#   benches/peers/run.sh                 every row, then the tables and pictures
#   benches/peers/run.sh ROW...          these rows alone, into the same report; then the same
#   benches/peers/run.sh --list          the rows
#   benches/peers/run.sh --draw          the tables and pictures, of the report as it is
#
# The report is benches/peers/results.json; PEERS_REPORT names another, for which nothing is drawn. The program starts a
# `redis-server` of its own on a free port of loopback. What is missing is named and not installed.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

here=benches/peers
missing=()
for program in cargo git redis-server valgrind; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if ((${#missing[@]})); then
    echo "run.sh: missing: ${missing[*]} (tests/run.sh installs redis-server and valgrind)" >&2
    exit 1
fi

cargo build --release --manifest-path "$here/Cargo.toml"
target=$(cargo metadata --no-deps --format-version 1 --manifest-path "$here/Cargo.toml" |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

case ${1:-} in
--list) exec "$target/release/measure" --list ;;
--draw) ;;
*)
    PEERS_REPORT=${PEERS_REPORT:-$here/results.json} "$target/release/measure" "$@"
    # Another's report is for looking at.
    [ -z "${PEERS_REPORT:-}" ] || exit 0
    ;;
esac
"$target/release/draw" "$here/results.json" "$here/plots" docs/peers.md
