#!/usr/bin/env bash
# Measures a hit of 30 KiB over HTTP/1.1: plain, coded, and plain within a compression layer; and puts the table into
# docs/guide/coded_forms.md. About a minute after the build. Installs wrk where apt-get is; for Linux with two cores.
#
#   benches/encode.sh            the table in the page
#   benches/encode.sh --print    the table alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v wrk >/dev/null; then
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
    $as_root apt-get update
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends wrk
fi

cargo build --release -p tower-support-cache-edge
file=docs/guide/coded_forms.md
[ "${1:-}" = --print ] && file=
python3 benches/edge/measure.py encode "${CARGO_TARGET_DIR:-target}/release" $file
