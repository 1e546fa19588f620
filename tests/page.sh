#!/usr/bin/env bash
# Clicks and types through the page of the example `support_portal` in headless Chromium:
#   tests/page.sh
# or through the operator's page alone, with PAGE_PICTURES as the folder for pictures of it:
#   tests/page.sh --operator
# or writes a screenshot of it:
#   tests/page.sh --screenshot FILE [WIDTH [light|dark]]
# Needs Chromium (CHROMIUM names it if it is called otherwise), Node.js and npm.
set -euo pipefail
cd "$(dirname "$0")/.."

PLAYWRIGHT=playwright-core@1.65.1
START_SECONDS=20
RUN_SECONDS=120

work=$(mktemp -d)
portal=

fail() {
    echo "page.sh: $1" >&2
    if [[ -s $work/stderr ]]; then
        echo "--- what the example logged:" >&2
        cat "$work/stderr" >&2
    fi
    exit 1
}

cleanup() {
    if [[ -n $portal ]]; then
        kill -KILL "$portal" 2>/dev/null || true
        wait "$portal" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

is_running() { kill -0 "$portal" 2>/dev/null; }
address() { sed -n 's|^support_portal listens on \(http://.*\)$|\1|p' "$work/stdout"; }

start() {
    local executable deadline
    executable=$(cargo build --example support_portal --message-format=json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [[ -x $executable ]] || fail "the example was not built"
    PORT=0 "$executable" >"$work/stdout" 2>"$work/stderr" &
    portal=$!
    deadline=$((SECONDS + START_SECONDS))
    until [[ -n $(address) ]]; do
        is_running || fail "the example ended by itself"
        ((SECONDS < deadline)) || fail "no address after $START_SECONDS s"
        sleep 0.05
    done
}

browser() {
    local name
    for name in ${CHROMIUM:-chromium chromium-browser google-chrome}; do
        command -v "$name" && return
    done
    fail "Chromium is missing"
}

chromium=$(browser)
# The client only: the browser is the system's.
(cd "$work" && npm install --silent --no-audit --no-fund --ignore-scripts "$PLAYWRIGHT" >npm.log 2>&1) ||
    fail "npm install $PLAYWRIGHT: $(cat "$work/npm.log")"
start
export PAGE_URL PAGE_MODULES PAGE_CHROMIUM
PAGE_URL=$(address)
PAGE_MODULES=$work
PAGE_CHROMIUM=$chromium
timeout "$RUN_SECONDS" node tests/page/page.mjs "$@" || fail "failed (see above)"
