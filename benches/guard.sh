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
failed = False


def compare(name, before, now, most, room=0, compares_instructions=True):
    """Prints one line, and notes if `now` has over `most` times the instructions or over `room` allocations more."""
    global failed
    told = f"{name}: {before['instructions']} -> {now['instructions']} instructions"
    told += f", {before['allocations']} -> {now['allocations']} allocations"
    is_worse = now["allocations"] > before["allocations"] + room
    is_worse |= compares_instructions and now["instructions"] > before["instructions"] * most
    failed |= is_worse
    print(("WORSE  " if is_worse else "ok     ") + told)


def modes(report):
    return {mode["mode"]: mode for mode in report["modes"]}


before = modes(baseline)
for name, mode in modes(now).items():
    # A map that grows now and then makes a fraction of an allocation.
    compare(name, before[name], mode, 1.05, 0.5, is_same_compiler)
reports = {name: modes(json.load(open(sys.argv[3] + name))) for name in ("", "metrics", "subscriber", "insight")}
for features, name in ("metrics", "metrics"), ("subscriber", "tracing at info"):
    compare(f"hit with {name}", reports[""]["hit"], reports[features]["hit"], 1.05)
for name in "recorded", "audited":
    compare(f"hit while {name}", reports["insight"]["hit"], reports["insight"][f"hit_{name}"], 1.03)
sys.exit(failed)
PYTHON
