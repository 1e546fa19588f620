#!/usr/bin/env bash
# Measures the hit ratio of the memory store, and the origin's time that it saves, beside other caches, and puts tables
# and picture into docs/. About 2 minutes after the build. TRACES names another folder with the traces. Needs xz.
#
#   benches/hit_ratio.sh            docs/hit_ratio.md and docs/hit_ratio.svg
#   benches/hit_ratio.sh --print    the tables are printed
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

here=benches/hit_ratio
cargo build --release --locked --manifest-path "$here/Cargo.toml"
program=${CARGO_TARGET_DIR:-$here/target}/release/hit_ratio
export TRACES=${TRACES:-$here/traces}
version() { sed -n "/^name = \"$1\"/{n;s/version = \"\(.*\)\"/\`$1\` \1/p}" "$here/Cargo.lock"; }
NOTE="Measured $(date -u '+%Y-%m-%d %H:%M') UTC, $(nproc) cores of $(uname -m), $(rustc -V); commit $(git rev-parse --short HEAD)"
[ -z "$(git status --porcelain -- src "$here/src")" ] || NOTE+=" with changes"
export NOTE="$NOTE. By \`bash benches/hit_ratio.sh\`. $(version foyer-memory), $(version moka), $(version quick_cache)."
case ${1:-} in
    --print) exec "$program" ;;
    *) exec "$program" docs ;;
esac
