#!/usr/bin/env bash
# Counts what a request costs: instructions under callgrind, and allocations. Never times.
#
#   benches/cost.sh [--json FILE] [--runs N] [--features LIST] [MODE...]   the table; all modes without MODE
#   benches/cost.sh --profile MODE                         the functions of the cache that a request spends them in
#
# Each mode is run with two counts; the difference, divided, is free of start and warm-up. Hash
# seeds differ between processes, so each run is made N times (default 3) and the median is taken.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

FEW=2000
MANY=4000

fail() {
    echo "cost.sh: $1" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

json=
profile=
runs=3
chosen=()
features=()
while (($#)); do
    case $1 in
    --json) json=${2:?a file} && shift ;;
    --runs) runs=${2:?a number} && shift ;;
    --features) features=(--no-default-features --features "${2?a list}") && shift ;;
    --profile) profile=${2:?a mode} && shift ;;
    -*) fail "unknown option $1" ;;
    *) chosen+=("$1") ;;
    esac
    shift
done

command -v valgrind >/dev/null || fail "valgrind is not installed"

build() {
    cargo build --release --package tower-support-cache-cost "${features[@]}" --message-format=json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

executable=$(build)
[[ -x $executable ]] || fail "the benchmark was not built"

# Counts the instructions of a whole process: callgrind MODE COUNT OUTPUT
callgrind() {
    valgrind --tool=callgrind --callgrind-out-file="$3" "$executable" "$1" "$2" 2>"$work/log" ||
        fail "$(cat "$work/log")"
}

instructions() {
    callgrind "$1" "$2" "$work/out"
    sed -n 's/^\(summary\|totals\): \([0-9]*\).*/\2/p' "$work/out" | tail -n 1
}

# Instructions of one request, lowest to highest over the runs: measure MODE
measure() {
    local run few many
    for ((run = 0; run < runs; run++)); do
        few=$(instructions "$1" "$FEW")
        many=$(instructions "$1" "$MANY")
        awk -v few="$few" -v many="$many" -v n=$((MANY - FEW)) 'BEGIN { printf "%.0f\n", (many - few) / n }'
    done | sort -n
}

# Instructions of a whole process in each function of the cache, with those that it calls: inclusive MODE COUNT
inclusive() {
    callgrind "$1" "$2" "$work/out"
    callgrind_annotate --inclusive=yes --threshold=100 --auto=no "$work/out" |
        sed -n 's/^ *\([0-9,]*\) ([^)]*)  [^:]*:\(.*tower_support_cache.*\) \[.*/\1\t\2/p'
}

if [[ -n $profile ]]; then
    inclusive "$profile" "$FEW" >"$work/few"
    inclusive "$profile" "$MANY" >"$work/many"
    awk -F '\t' -v n=$((MANY - FEW)) '{ gsub(",", "", $1) } NR == FNR { few[$2] = $1; next } { printf "%8d  %s\n", ($1 - few[$2]) / n, $2 }' \
        "$work/few" "$work/many" | sort -rn | awk '$1 >= 20'
    exit
fi

"$executable" >"$work/allocations"
known=$(awk 'NR > 1 { print $1 }' "$work/allocations")
((${#chosen[@]})) || mapfile -t chosen <<<"$known"
for mode in "${chosen[@]}"; do
    grep -qx -- "$mode" <<<"$known" || fail "unknown mode $mode"
done
# What the others are compared with, first.
mapfile -t modes < <(printf '%s\n' harness bare minimum minimum_miss "${chosen[@]}" | awk '!seen[$0]++')

for mode in "${modes[@]}"; do
    mapfile -t counts < <(measure "$mode")
    echo "$mode ${counts[$((runs / 2))]} ${counts[0]} ${counts[$((runs - 1))]}" >>"$work/instructions"
done

# mode, instructions, lowest, highest, allocations, bytes
join <(sort "$work/instructions") <(awk 'NR > 1 { print $1, $2, $3 }' "$work/allocations" | sort) >"$work/joined"

commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
machine="$(nproc) cores, $(uname -m)"
compiler=$(rustc --version)
valgrind=$(valgrind --version)
printf '%s; %s; %s; %s; commit %s; %s runs of %s and %s requests\n\n' \
    "$(date +%F)" "$machine" "$compiler" "$valgrind" "$commit" "$runs" "$FEW" "$MANY"

# Hits stand beside the minimum's hit, misses beside the minimum's miss, both above the harness.
for mode in "${modes[@]}"; do grep "^$mode " "$work/joined"; done |
    awk -v json="$json" -v file_head="\"date\":\"$(date +%F)\",\"machine\":\"$machine\",\"rustc\":\"$compiler\",\"valgrind\":\"$valgrind\",\"commit\":\"$commit\"" '
{ name[NR] = $1; count[$1] = $2; low[$1] = $3; high[$1] = $4; pieces[$1] = $5; bytes[$1] = $6 }
function ratio(mode, floor, least) {
    if (mode ~ /miss$/) least = "minimum_miss"
    else if (mode ~ /hit|minimum/) least = "minimum"
    else return "null"
    floor = "harness"
    return sprintf("%.2f", (count[mode] - count[floor]) / (count[least] - count[floor]))
}
END {
    row = "%-15s%13s%15s%11s%11s%8s%10s%11s%11s%8s\n"
    printf row, "", "", "", "above", "above", "", "", "above", "above", ""
    printf row, "mode", "instructions", "low-high", "harness", "bare", "ratio", "allocs", "harness", "bare", "bytes"
    for (n = 1; n <= NR; n++) {
        mode = name[n]
        above_harness = count[mode] - count["harness"]; above_bare = count[mode] - count["bare"]
        pieces_harness = sprintf("%.2f", pieces[mode] - pieces["harness"])
        pieces_bare = sprintf("%.2f", pieces[mode] - pieces["bare"])
        r = ratio(mode)
        printf row, mode, count[mode], low[mode] "-" high[mode], above_harness, above_bare, r == "null" ? "" : r, pieces[mode], pieces_harness, pieces_bare, bytes[mode]
        list = list (n > 1 ? "," : "") sprintf("{\"mode\":\"%s\",\"instructions\":%d,\"lowest\":%d,\"highest\":%d,\"above_harness\":%d,\"above_bare\":%d,\"ratio\":%s,\"allocations\":%s,\"allocations_above_harness\":%s,\"allocations_above_bare\":%s,\"bytes\":%d}", mode, count[mode], low[mode], high[mode], above_harness, above_bare, r, pieces[mode], pieces_harness, pieces_bare, bytes[mode])
    }
    if (json != "") print "{" file_head ",\"modes\":[" list "]}" > json
}'
