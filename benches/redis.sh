#!/usr/bin/env bash
# Counts the client's instructions of a hit over Redis, beside the crate's own calls for the same
# bytes and beside hits in memory, 64 at a time, under callgrind. The server's are not counted.
#
#   benches/redis.sh [--runs N]              the table
#   benches/redis.sh --profile MODE [N]      where a whole run of one mode goes
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

FEW=6400
MANY=19200
MODES=(redis_raw_get redis_raw_hmget redis_raw_hget redis_hit redis_hot_hit redis_read_hit memory_hit near_hit)

fail() {
    echo "redis.sh: $1" >&2
    exit 1
}

runs=3
profile=
while (($#)); do
    case $1 in
    --runs) runs=${2:?a number} && shift ;;
    --profile) profile=${2:?a mode} && shift ;;
    *) fail "unknown argument $1" ;;
    esac
    shift
done

command -v valgrind >/dev/null || fail "valgrind is not installed"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
executable=$(cargo bench --bench redis --no-run --message-format=json-render-diagnostics \
    --package tower-support-cache-redis-cost |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[[ -x $executable ]] || fail "the benchmark was not built"

# Counts the instructions of a whole process: callgrind MODE COUNT
callgrind() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$executable" "$1" "$2" 2>"$work/log" ||
        fail "$(cat "$work/log")"
}

instructions() {
    callgrind "$1" "$2"
    sed -n 's/^\(summary\|totals\): \([0-9]*\).*/\2/p' "$work/out" | tail -n 1
}

if [[ -n $profile ]]; then
    callgrind "$profile" "$MANY"
    callgrind_annotate --inclusive=yes --threshold=100 --auto=no "$work/out" | sed -n 1,150p
    exit
fi

declare -A median
printf '%s; %s cores, %s; %s; %s; %s; commit %s; %s runs of %s and %s requests\n\n' "$(date +%F)" "$(nproc)" \
    "$(uname -m)" "$(rustc --version)" "$(valgrind --version)" "$(redis-server --version | cut -d' ' -f3)" \
    "$(git describe --always --dirty)" "$runs" "$FEW" "$MANY"
printf '%-17s%14s%16s\n' mode instructions low-high
for mode in "${MODES[@]}"; do
    mapfile -t counts < <(for ((run = 0; run < runs; run++)); do
        few=$(instructions "$mode" "$FEW")
        many=$(instructions "$mode" "$MANY")
        echo $(((many - few) / (MANY - FEW)))
    done | sort -n)
    median[$mode]=${counts[$((runs / 2))]}
    printf '%-17s%14s%16s\n' "$mode" "${median[$mode]}" "${counts[0]}-${counts[$((runs - 1))]}"
done
ratio() { awk -v a="${median[$1]}" -v b="${median[$2]}" -v what="$1 / $2" 'BEGIN { printf "%-34s%.3f\n", what, a / b }'; }
echo
ratio redis_hit redis_raw_get
ratio redis_hit redis_raw_hmget
ratio redis_hit redis_raw_hget
ratio near_hit memory_hit
