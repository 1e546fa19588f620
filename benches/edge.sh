#!/usr/bin/env bash
# Measures a hit over HTTP/1.1 beside an empty handler, nginx and Varnish, and puts the table into docs/peers.md.
# About two minutes after the build. Installs nginx, Varnish and wrk where apt-get is; for Linux with two cores.
#
#   benches/edge.sh            the table in docs/peers.md
#   benches/edge.sh --print    the table alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
for program in nginx varnishd wrk; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("${program/varnishd/varnish}")
done
PATH=$PATH:/usr/sbin
if ((${#missing[@]})); then
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
    # The packages would start servers of their own on ports that are not ours.
    $as_root apt-get update
    $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends "${missing[@]}"
fi

cargo build --release -p tower-support-cache-edge -p example-reverse-proxy
file=docs/peers.md
[ "${1:-}" = --print ] && file=
python3 benches/edge/measure.py edge "${CARGO_TARGET_DIR:-target}/release" $file
