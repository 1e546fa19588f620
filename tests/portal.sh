#!/usr/bin/env bash
# Runs the example `support_portal` and the curl lines it prints, and checks what they show:
# a miss, a hit, an invalidation of both keys, authentication outside the cache, and a CRM that was
# called once for each forward.
set -euo pipefail
cd "$(dirname "$0")/.."

START_SECONDS=20
ANSWER_SECONDS=10
STOP_SECONDS=5

work=$(mktemp -d)
portal=
forwards=0
writes=0

fail() {
    echo "portal.sh: $1" >&2
    if [[ -s $work/response ]]; then
        echo "--- the last response:" >&2
        cat "$work/response" >&2
    fi
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

# Tries a command until it succeeds: await SECONDS COMMAND...
await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

has_printed_all() { [[ $(grep -c '^curl ' "$work/stdout") -ge 3 ]]; }
is_running() { kill -0 "$portal" 2>/dev/null; }
is_ready() { has_printed_all || ! is_running; }
has_stopped() { ! is_running; }

start() {
    executable=$(cargo build --example support_portal --message-format=json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [[ -x $executable ]] || fail "the example was not built"
    PORT=0 "$executable" >"$work/stdout" 2>"$work/stderr" &
    portal=$!
    await "$START_SECONDS" is_ready || fail "no curl lines after $START_SECONDS s"
    is_running || fail "the example ended by itself"
    url=$(sed -n 's|^support_portal listens on \(http://.*\)$|\1|p' "$work/stdout")
    [[ -n $url ]] || fail "the example printed no address"
    mapfile -t lines < <(grep '^curl ' "$work/stdout")
    [[ ${#lines[@]} -eq 3 ]] || fail "${#lines[@]} curl lines instead of 3"
}

# Runs a command line whose response is then checked, and counts it if the cache forwarded it.
run() {
    timeout "$ANSWER_SECONDS" bash -c "$1" >"$work/response" 2>"$work/curl" || fail "failed: $1"
    tr -d '\r' <"$work/response" >"$work/plain"
    mv "$work/plain" "$work/response"
    asked=$1
    if grep -qi '^cache-status:.*;fwd=' "$work/response"; then
        forwards=$((forwards + 1))
    fi
    if grep -qi '^cache-status:.*;fwd=method' "$work/response"; then
        writes=$((writes + 1))
    fi
}

# Asks for a path with an account's token, or with none: ask METHOD PATH [ACCOUNT [BODY]]
ask() {
    local line="curl -si -X $1 '$url$2'"
    [[ -z ${3-} ]] || line+=" -H 'Authorization: Bearer demo-$3'"
    [[ -z ${4-} ]] || line+=" -H 'Content-Type: application/json' -d '$4'"
    run "$line"
}

expect() {
    grep -qiE -- "$1" "$work/response" || fail "no \`$1\` in the answer to: $asked"
}

expect_not() {
    ! grep -qiE -- "$1" "$work/response" || fail "\`$1\` in the answer to: $asked"
}

expect_status() { expect "^HTTP/1\.1 $1 "; }

expect_stored() {
    expect_status 200
    expect '^cache-status: support-cache;fwd=uri-miss;fwd-status=200;stored$'
    expect_not '^age:'
}

expect_hit() {
    expect_status 200
    expect '^cache-status: support-cache;hit;ttl=[0-9]+$'
    expect '^age: [0-9]+$'
}

# The number after a name in the last response; summed up where it occurs more than once.
count() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" "$work/response" | awk '{ n += $1 } END { print n + 0 }'; }

expect_count() {
    local actual
    actual=$(count "$1")
    [[ $actual -eq $2 ]] || fail "\`$1\` is $actual, not $2"
}

start
list=${lines[0]} comment=${lines[1]} metrics=${lines[2]}
cases=/accounts/A1/cases
messages=$cases/C1/messages

# A miss that is stored, then a hit, for both keys.
run "$list"
expect_stored
run "$list"
expect_hit
ask GET "$messages" A1
expect_stored
ask GET "$messages" A1
expect_hit
expect_not 'Still broken'

# What is stored is for those who pass authentication.
ask GET "$cases"
expect_status 401
expect '^www-authenticate: Bearer$'
expect_not '^cache-status:'
ask GET "$cases" nobody
expect_status 401
ask GET "$cases" A2
expect_status 403
expect_not '^cache-status:'
ask GET "$messages" A2
expect_status 403
ask POST "$cases/C1/comments" A2 '{"text": "not mine"}'
expect_status 403
ask GET /accounts/A2/cases/C1/messages A2
expect_status 404
run "$list"
expect_hit

# A comment takes both keys out.
run "$comment"
expect_status 201
expect '^cache-status: support-cache;fwd=method;fwd-status=201$'
run "$list"
expect_stored
ask GET "$messages" A1
expect_stored
expect 'Still broken'
run "$list"
expect_hit
ask GET "$messages" A1
expect_hit

# A new case takes out the list only.
ask POST "$cases" A1 '{"subject": "Sensor is cold", "text": "Since today."}'
expect_status 201
run "$list"
expect_stored
expect 'Sensor is cold'
ask GET "$messages" A1
expect_hit

# Three counts of the same: what the answers said, what the cache counted, what reached the CRM.
run "$metrics"
expect_status 200
expect_count calls "$forwards"
expect_count left $((15000 - forwards))
expect_count misses $((forwards - writes))
expect_count hits 6
expect_count invalidations 3
expect_count invalidation_failures 0

# A taken port.
rm "$work/response"
port=${url##*:}
status=0
PORT=$port timeout "$START_SECONDS" "$executable" >"$work/second" 2>&1 || status=$?
[[ $status -eq 1 ]] || fail "on a taken port the example ended with status $status, not 1"
grep -q "^support_portal: cannot listen on 127.0.0.1:$port: " "$work/second" ||
    fail "on a taken port the example said: $(cat "$work/second")"

kill -TERM "$portal"
await "$STOP_SECONDS" has_stopped || fail "the example did not stop within $STOP_SECONDS s of SIGTERM"
status=0
wait "$portal" || status=$?
portal=
[[ $status -eq 0 ]] || fail "the example ended with status $status"

echo "portal.sh: passed; $forwards forwards, $forwards calls to the CRM"
