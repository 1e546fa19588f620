#!/usr/bin/env bash
# Simulates three days of the portal over an origin with a daily quota: without a cache, with fixed lifetimes, and
# with a budget. Puts table and plot into docs/. Some seconds after the build.
#
#   benches/origin.sh            the days; docs/origin.md and docs/origin.svg
#   benches/origin.sh --print    the days; the table is printed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --release -p tower-support-cache-origin
origin=${CARGO_TARGET_DIR:-target}/release/origin
case ${1:-} in
    --print) exec "$origin" ;;
    *) exec "$origin" docs ;;
esac
