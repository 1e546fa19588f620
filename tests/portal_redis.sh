#!/usr/bin/env bash
# Runs two processes of the example `support_portal` on a Redis of their own, and checks that they
# share what is stored and one CRM call for it, that a write in one is seen in the other at once, that
# each shows both, and that requests go on without the server.
set -euo pipefail
cd "$(dirname "$0")/.."

START_SECONDS=20
ANSWER_SECONDS=10
SOON_SECONDS=10
STOP_SECONDS=5

work=$(mktemp -d)
pids=()

fail() {
    echo "portal_redis.sh: $1" >&2
    for file in response server one.log two.log; do
        if [[ -s $work/$file ]]; then
            echo "--- $file:" >&2
            cat "$work/$file" >&2
        fi
    done
    exit 1
}

cleanup() {
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
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

free_port() { node -e 'const s = require("net").createServer(); s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }
server_answers() { redis-cli -p "$server_port" ping >/dev/null 2>&1; }
address() { sed -n 's|^support_portal listens on \(http://.*\)$|\1|p' "$work/$1.out" 2>/dev/null; }
has_address() { [[ -n $(address "$1") ]]; }
has_stopped() { ! kill -0 "$1" 2>/dev/null; }

start() {
    REDIS_URL=$redis PORT=0 "$executable" >"$work/$1.out" 2>"$work/$1.log" &
    pids+=($!)
    await "$START_SECONDS" has_address "$1" || fail "process $1 printed no address"
}

# ask PROCESS METHOD PATH [BODY]
ask() {
    local options=(-si -X "$2" -H 'Authorization: Bearer demo-A1')
    [[ -z ${4-} ]] || options+=(-H 'Content-Type: application/json' -d "$4")
    asked="$2 $3 of process $1"
    timeout "$ANSWER_SECONDS" curl "${options[@]}" "${!1}$3" | tr -d '\r' >"$work/response" ||
        fail "no answer to $asked"
}

expect() { grep -qiE -- "$1" "$work/response" || fail "no \`$1\` in the answer to: $asked"; }

# metric PROCESS EXPRESSION: prints what the expression says of `it`, the process's metrics.
metric() { curl -s "${!1}/metrics" | node -e 'const it = JSON.parse(require("fs").readFileSync(0)); console.log(eval(process.argv[1]))' "$2"; }
is() { [[ $(metric "$1" "$2") == "$3" ]]; }
soon() { await "$SOON_SECONDS" is "$@" || fail "process $1: \`$2\` is $(metric "$1" "$2"), not $3"; }
expect_calls() {
    local calls=$(($(metric one it.crm.calls) + $(metric two it.crm.calls)))
    ((calls == $1)) || fail "$calls CRM calls, not $1, after: $asked"
}

server_port=$(free_port)
redis-server --port "$server_port" --bind 127.0.0.1 --save '' --dir "$work" >"$work/server" 2>&1 &
server=$!
pids+=("$server")
await "$START_SECONDS" server_answers || fail "redis-server does not answer"
redis=redis://127.0.0.1:$server_port/
executable=$(cargo build --features redis --example support_portal --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[[ -x $executable ]] || fail "the example was not built"
start one
start two
one=$(address one)
two=$(address two)
for process in one two; do
    soon "$process" it.cache.store.is_linked true
    soon "$process" it.cache.store.near.is_proven true
    soon "$process" it.processes.length 2
done

list=/accounts/A1/cases
messages=$list/C1/messages

# One CRM call for both, at once and one after the other.
for process in one two one two; do
    curl -s -o /dev/null -H 'Authorization: Bearer demo-A1' "${!process}$list" &
    readers+=($!)
done
wait "${readers[@]}"
for process in one two; do
    ask "$process" GET "$list"
    expect '^cache-status: support-cache;hit;ttl='
    ask "$process" GET "$messages"
done
expect '^cache-status: support-cache;hit;ttl='
expect_calls 2

# A write in one is seen in the other at once, both keys.
ask one POST "$list/C1/comments" '{"text": "Seen in both."}'
expect '^HTTP/1\.1 201 '
ask two GET "$messages"
expect 'Seen in both\.'
ask two GET "$list"
expect '^cache-status: support-cache;fwd=uri-miss;fwd-status=200;stored$'
ask one GET "$messages"
expect '^cache-status: support-cache;hit;ttl='
expect 'Seen in both\.'
expect_calls 5
ask two POST "$list" '{"subject": "Sensor is cold", "text": "Since today."}'
ask one GET "$list"
expect 'Sensor is cold'
expect_calls 7

# A process answers from its own memory what it has read before.
before=$(metric one it.cache.store.operations.lookup)
near=$(metric one it.cache.store.near.hits)
for _ in 1 2 3; do
    ask one GET "$messages"
    expect '^cache-status: support-cache;hit;ttl='
done
[[ $(metric one it.cache.store.operations.lookup) == "$before" ]] || fail "the near cache asked the server"
(($(metric one it.cache.store.near.hits) == near + 3)) || fail "the near cache did not answer"

# Each shows both.
for process in one two; do
    soon "$process" 'it.processes.map((each) => each.name).sort().join(" ")' "$(printf '%s\n' "$one" "$two" | sort | xargs)"
    soon "$process" 'it.processes.reduce((all, each) => all + each.calls, 0)' 7
    soon "$process" 'it.processes.filter((each) => each.is_this).length' 1
done

# Told to stop, a process leaves nothing behind, and is not shown for long.
kill -TERM "${pids[2]}"
await "$STOP_SECONDS" has_stopped "${pids[2]}" || fail "process two did not stop"
status=0
wait "${pids[2]}" || status=$?
((status == 0)) || fail "process two ended with status $status"
soon one it.processes.length 1

# Without the server every request is answered.
{ kill -KILL "$server" && wait "$server" || true; } 2>/dev/null
soon one it.cache.store.is_linked false
ask one GET "$list"
expect '^HTTP/1\.1 200 '
expect '^cache-status: support-cache;fwd=bypass;fwd-status=200;detail=store$'
expect 'Sensor is cold'

echo "portal_redis.sh: passed; 2 processes, 7 calls to the CRM"
