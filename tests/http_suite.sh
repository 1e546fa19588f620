#!/usr/bin/env bash
# Runs the suite of https://cache-tests.fyi against examples/reverse_proxy, and fails where a required
# behaviour is missing that the list of its edition does not name, where one is had that it does, or where
# fewer of the optimal ones are had than it says. Needs node.
#
#   tests/http_suite.sh [FILE]     FILE: where the suite's own results go, as JSON
#
# The edition is a commit of its repository: from CACHE_TESTS (a clone, also a bare one) or from GitHub. Where
# neither can be read, or with CACHE_TESTS=npm, it is the older edition of the npm registry (needs npm).
set -euo pipefail
cd "$(dirname "$0")/.."

COMMIT=b55b8bda3dbb8c927c04e85bd8d496a8caa3e4ba
PACKAGE=http-cache-tests@0.4.5
here=$PWD
results=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/http_suite.json}")

command -v node >/dev/null || { echo "http_suite.sh: node is not installed" >&2; exit 1; }

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

cargo build --release -p example-reverse-proxy
proxy=${CARGO_TARGET_DIR:-target}/release/example-reverse-proxy

# Brings the commit to $work/suite.
clone() {
    [ "${CACHE_TESTS:-}" != npm ] && git init --quiet "$work/suite" &&
        git -C "$work/suite" fetch --quiet --depth 1 \
            "${CACHE_TESTS:-https://github.com/http-tests/cache-tests}" "$COMMIT" &&
        git -C "$work/suite" checkout --quiet FETCH_HEAD
}

if clone; then
    suite=$work/suite
    engine=$suite/test-engine
    list=deliberate.txt
    echo "cache-tests at $COMMIT"
else
    npm install --silent --no-audit --no-fund --prefix "$work" "$PACKAGE"
    suite=$work/node_modules/http-cache-tests
    engine=$suite
    list=deliberate-npm.txt
    echo "$PACKAGE of the npm registry"
fi

cd "$suite"
origin=$(free_port)
npm_config_protocol=http npm_config_port=$origin npm_config_pidfile="$work/pid" \
    node "$engine/server/server.mjs" >"$work/origin.log" 2>&1 &
started+=($!)
listening "$origin"
cache=$(free_port)
(cd "$here" && exec "$proxy" --origin "http://127.0.0.1:$origin" --listen "127.0.0.1:$cache") >"$work/proxy.log" 2>&1 &
started+=($!)
listening "$cache"

npm_config_base="http://127.0.0.1:$cache" npm_package_config_id='' \
    node --no-warnings "$engine/cli.mjs" >"$results"
node "$here/tests/http_suite/judge.mjs" "$suite" "$results" "$here/tests/http_suite/$list"
