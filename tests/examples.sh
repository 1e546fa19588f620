#!/usr/bin/env bash
# Runs the README's program, and each example that is a program of its own, and checks what they show. Each has a
# limited time to start, to answer and to end. `support_portal` is run by tests/portal.sh and
# tests/portal_redis.sh, and the portal with Prometheus by examples/prometheus/tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SOON_SECONDS=20
ANSWER_SECONDS=10

work=$(mktemp -d)
name=none
declare -A pids=()

fail() {
    echo "examples.sh: $name: $1" >&2
    tail -n 20 "$work"/*.out "$work"/*.err "$work/response" >&2 2>/dev/null || true
    exit 1
}

cleanup() {
    local pid
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

# Tries a command until it succeeds: await COMMAND...
await() {
    local deadline=$((SECONDS + SOON_SECONDS))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

address() { sed -n '1s|^\(http://[^ ]*\).*|\1|p' "$work/$1.out" 2>/dev/null; }
has_address() { [[ -n $(address "$1") ]]; }
has_ended() { ! kill -0 "$1" 2>/dev/null; }
says() { grep -q -- "$2" "$work/$1.err"; }

# start NAME PROGRAM [ARGUMENT...]: starts a server on a port that is free; `url` is its address.
start() {
    name=$1
    PORT=0 "${@:2}" >"$work/$1.out" 2>"$work/$1.err" &
    pids[$1]=$!
    await has_address "$1" || fail "no address within $SOON_SECONDS s"
    url=$(address "$1")
}

# stop NAME SIGNAL: the server ends in time, and without a failure.
stop() {
    name=$1
    kill "-$2" "${pids[$1]}"
    await has_ended "${pids[$1]}" || fail "runs on after $2"
    wait "${pids[$1]}" || fail "ended with $?"
    unset "pids[$1]"
}

# ask METHOD URL [OPTION...]
ask() {
    asked="$1 $2"
    curl -si --max-time "$ANSWER_SECONDS" -X "$1" "$2" "${@:3}" | tr -d '\r' >"$work/response" || fail "no answer to $asked"
}

expect() { grep -qiE -- "$1" "$work/response" || fail "no \`$1\` in the answer to $asked"; }
expect_miss() { expect '^cache-status: .*;fwd=uri-miss;fwd-status=200;stored$'; }
expect_hit() { expect '^cache-status: [a-z-]*;hit;ttl=[0-9]+$'; }
hits() { ask GET "$1" && grep -qiE '^cache-status: .*;hit;' "$work/response"; }

bins=()
for crate in service hyper-server warp-stack api-client reverse-proxy two-processes config-file; do
    bins+=(-p "example-$crate")
done
cargo build "${bins[@]}"
target=${CARGO_TARGET_DIR:-target}/debug

# The README's program, in a crate with the README's dependencies, on a port that is free.
free_port() {
    node -e 'const s = require("net").createServer(); s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'
}
# block LANGUAGE: the first block of the README in that language.
block() { awk -v fence="\`\`\`$1" '$0 == fence { inside = 1; next } inside && /^```$/ { exit } inside' README.md; }
name=readme
first=$work/readme
mkdir -p "$first/src"
port=$(free_port)
block rust,no_run | sed "s/127\.0\.0\.1:3000/127.0.0.1:$port/" >"$first/src/main.rs"
{
    printf '[package]\nname = "readme"\nedition = "2024"\n[workspace]\n'
    block toml | sed "s|\.\./tower-support-cache|$PWD|"
} >"$first/Cargo.toml"
cp Cargo.lock "$first"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} cargo build --quiet --manifest-path "$first/Cargo.toml"
"$target/readme" >"$work/readme.out" 2>"$work/readme.err" &
pids[readme]=$!
url=http://127.0.0.1:$port
await curl -s --max-time "$ANSWER_SECONDS" -o "$work/response" "$url/accounts/A2/cases" || fail "no answer"
ask GET "$url/accounts/A1/cases"
expect_miss
ask GET "$url/accounts/A1/cases"
expect_hit
ask POST "$url/accounts/A1/cases"
ask GET "$url/accounts/A1/cases"
expect_miss
{ kill -KILL "${pids[readme]}" && wait "${pids[readme]}"; } 2>/dev/null || true
unset "pids[readme]"

# Sign-in around the cache: a tenant shares, and nobody gets in without a token.
start service "$target/example-service"
ask GET "$url/api/cases" -H 'authorization: Bearer anna@acme'
expect_miss
ask GET "$url/api/cases" -H 'authorization: Bearer bert@acme'
expect_hit
ask GET "$url/api/cases"
expect '^HTTP/1.1 401'
stop service INT

# A write invalidates, and SIGTERM ends the server.
start hyper-server "$target/example-hyper-server"
hyper=$url
ask GET "$url/cases/C1"
expect_miss
hits "$url/cases/C1" || fail "the second request is no hit"
ask PUT "$url/cases/C1" -d 'waits for a part'
expect '^HTTP/1.1 204'
ask GET "$url/cases/C1"
expect_miss
expect '^waits for a part$'

# In front of it, a proxy that obeys what responses say. These say nothing, so it stores none.
start reverse-proxy "$target/example-reverse-proxy" --origin "$hyper" --listen 127.0.0.1:0
ask GET "$url/cases/C1"
expect '^waits for a part$'
expect '^via: '
{ kill -KILL "${pids[reverse-proxy]}" && wait "${pids[reverse-proxy]}"; } 2>/dev/null || true
unset "pids[reverse-proxy]"
stop hyper-server TERM
grep -q 'all ended' "$work/hyper-server.out" || fail "the end was not reached"

start warp-stack "$target/example-warp-stack"
ask GET "$url/accounts/A1/cases"
expect_miss
ask GET "$url/accounts/A1/cases"
expect_hit
ask POST "$url/accounts/A1/cases"
expect '^HTTP/1.1 201'
ask GET "$url/accounts/A1/cases"
expect_miss
expect '^1 cases of A1$'
stop warp-stack INT

# 23 requests are two calls, and after a 429 a stale answer stands in.
name=api-client
asked="the program"
timeout "$SOON_SECONDS" "$target/example-api-client" >"$work/response" 2>"$work/api-client.err" || fail "ended with $?"
expect '^2 calls for 23 requests$'
expect '^429 no more calls: '
expect '^200 .*/rates/EUR: .*;hit;ttl=.*detail=quota$'
expect '^4 calls, '

# Two processes on one Redis: what one has stored the other answers with, and its write reaches both.
redis_port=$(free_port)
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$work" >"$work/redis.out" 2>&1 &
pids[redis]=$!
export REDIS_URL=redis://127.0.0.1:$redis_port/
start one "$target/example-two-processes"
one=$url
start two "$target/example-two-processes"
two=$url
for process in one two; do
    await says "$process" 'linked to Redis' || fail "process $process has no link"
done
ask GET "$one/accounts/A1/cases"
expect_miss
ask GET "$two/accounts/A1/cases"
expect_hit
expect "by process ${pids[one]}\$"
ask POST "$two/accounts/A1/cases"
expect '^HTTP/1.1 201'
ask GET "$two/accounts/A1/cases"
expect_miss
await hits "$one/accounts/A1/cases" || fail "process one does not find what two has stored"
expect "by process ${pids[two]}\$"
stop one INT
stop two INT

# A file makes the cache. A mistake in it is named and changes nothing; another lifetime holds for what is stored.
cp examples/config_file/cache.toml "$work/cache.toml"
start config-file "$target/example-config-file" "$work/cache.toml"
ask GET "$url/accounts/A1/cases"
expect_miss
replace() { sed -e "s/^ttl = .*/ttl = $1/" examples/config_file/cache.toml >"$work/new.toml" && mv "$work/new.toml" "$work/cache.toml"; }
replace 30
await says config-file 'cache.toml:[0-9]*:.*expected a duration' || fail "the mistake is not named"
hits "$url/accounts/A1/cases" || fail "a mistake in the file empties the cache"
replace '"1h"'
await says config-file 'is in force' || fail "the new file is not in force"
hits "$url/accounts/A1/cases" || fail "another lifetime empties the cache"
stop config-file INT

printf 'examples.sh: all examples ran, in %d s with their build\n' "$SECONDS"
