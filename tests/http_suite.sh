#!/usr/bin/env bash
# Runs the suite of https://cache-tests.fyi (http-cache-tests, from npm) against examples/reverse_proxy,
# and fails where a required behaviour is not had that tests/http_suite/deliberate.txt does not name, or
# one is had that it does. Needs node and npm.
#
#   tests/http_suite.sh [FILE]     FILE: where the suite's own results go, as JSON
set -euo pipefail
cd "$(dirname "$0")/.."

SUITE=0.4.5
here=$PWD
results=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/http_suite.json}")

for tool in node npm; do
    command -v "$tool" >/dev/null || { echo "http_suite.sh: $tool is not installed" >&2; exit 1; }
done

work=$(mktemp -d)
started=()
finish() {
    ((${#started[@]})) && kill "${started[@]}" 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT

free_port() {
    node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'
}

# Waits until something listens: listening PORT
listening() {
    for _ in {1..200}; do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    echo "http_suite.sh: nothing listens on $1" >&2
    exit 1
}

cargo build --release --example reverse_proxy
proxy=${CARGO_TARGET_DIR:-target}/release/examples/reverse_proxy

npm install --silent --no-audit --no-fund --prefix "$work" "http-cache-tests@$SUITE"
cd "$work/node_modules/http-cache-tests"
origin=$(free_port)
npm_config_protocol=http npm_config_port=$origin npm_config_pidfile="$work/pid" node server/server.mjs >"$work/origin.log" 2>&1 &
started+=($!)
listening "$origin"
cache=$(free_port)
(cd "$here" && exec "$proxy" --origin "http://127.0.0.1:$origin" --listen "127.0.0.1:$cache") >"$work/proxy.log" 2>&1 &
started+=($!)
listening "$cache"

npm run --silent cli --base="http://127.0.0.1:$cache" >"$results"
node "$here/tests/http_suite/judge.mjs" "$PWD" "$results" "$here/tests/http_suite/deliberate.txt"
