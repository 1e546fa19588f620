#!/usr/bin/env bash
# Fails if a hit, a miss or a passthrough costs over 5 % more instructions than benches/baseline.json
# says, or more allocations. `benches/guard.sh --accept` writes a new baseline. Fails, too, if a hit costs
# over 5 % more with a feature than without any: `metrics`, or `tracing` with a subscriber at `info`; or if it
# costs over 3 % more while outcomes are recorded or audits are on.
#
# Instructions are compared where the compiler is the baseline's; allocations always.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

modes=(harness bare hit hit_per_caller miss pass plain_post)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
now=$work/now
bash benches/cost.sh --runs 1 --json "$now" "${modes[@]}"
if [ "${1:-}" = --accept ]; then
    cp "$now" benches/baseline.json
    exit
fi
for features in "" metrics subscriber; do
    bash benches/cost.sh --runs 1 --features "$features" --json "$work/with-$features" hit >/dev/null
done
bash benches/cost.sh --runs 1 --json "$work/with-insight" hit hit_recorded hit_audited >/dev/null
python3 - benches/baseline.json "$now" "$work/with-" <<'PYTHON'
import json
import sys

baseline, now = (json.load(open(path)) for path in sys.argv[1:3])
is_same_compiler = baseline["rustc"] == now["rustc"]
if not is_same_compiler:
    print(f"the baseline is of {baseline['rustc']}: allocations only")
before = {mode["mode"]: mode for mode in baseline["modes"]}
failed = False
for mode in now["modes"]:
    known = before[mode["mode"]]
    told = f"{mode['mode']}: {known['instructions']} -> {mode['instructions']} instructions"
    told += f", {known['allocations']} -> {mode['allocations']} allocations"
    # A map that grows now and then makes a fraction of an allocation.
    is_worse = mode["allocations"] > known["allocations"] + 0.5
    is_worse |= is_same_compiler and mode["instructions"] > known["instructions"] * 1.05
    failed |= is_worse
    print(("WORSE  " if is_worse else "ok     ") + told)


def hit(features):
    modes = json.load(open(sys.argv[3] + features))["modes"]
    return next(mode for mode in modes if mode["mode"] == "hit")


without = hit("")
for features, name in ("metrics", "metrics"), ("subscriber", "tracing at info"):
    with_it = hit(features)
    told = f"hit with {name}: {without['instructions']} -> {with_it['instructions']} instructions"
    told += f", {without['allocations']} -> {with_it['allocations']} allocations"
    is_worse = with_it["allocations"] > without["allocations"]
    is_worse |= with_it["instructions"] > without["instructions"] * 1.05
    failed |= is_worse
    print(("WORSE  " if is_worse else "ok     ") + told)
insight = {mode["mode"]: mode for mode in json.load(open(sys.argv[3] + "insight"))["modes"]}
for name in "recorded", "audited":
    off, on = insight["hit"], insight[f"hit_{name}"]
    told = f"hit while {name}: {off['instructions']} -> {on['instructions']} instructions"
    told += f", {off['allocations']} -> {on['allocations']} allocations"
    is_worse = on["allocations"] > off["allocations"]
    is_worse |= on["instructions"] > off["instructions"] * 1.03
    failed |= is_worse
    print(("WORSE  " if is_worse else "ok     ") + told)
sys.exit(failed)
PYTHON
