#!/usr/bin/env bash
# What each part of a hit costs: takes one part out of a copy of the tree at a time, and counts the
# instructions of a hit without it. The copies are for counting; they are not right.
set -euo pipefail
cd "$(dirname "$0")/.."
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/ablation"

mkdir "$copy/base"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy/base"

# hit: prints the instructions of a hit above the harness, in the copy at hand.
hit() {
    (cd "$copy/tree" && RUSTFLAGS=-Awarnings bash benches/cost.sh --runs 1 --json "$copy/json" hit) \
        >"$copy/log" 2>&1 || { cat "$copy/log" >&2; return 1; }
    python3 -c 'import json, sys
modes = {mode["mode"]: mode for mode in json.load(open(sys.argv[1]))["modes"]}
print(modes["hit"]["above_harness"])' "$copy/json"
}

# without PART FILE PERL-SUBSTITUTION [FILE PERL-SUBSTITUTION]...
without() {
    local part="$1"
    shift
    rm -rf "$copy/tree"
    cp -r "$copy/base" "$copy/tree"
    while (($#)); do
        perl -0pi -e "$2" "$copy/tree/$1"
        if cmp -s "$copy/base/$1" "$copy/tree/$1"; then
            printf '%s: the change no longer applies to %s\n' "$part" "$1" >&2
            return 1
        fi
        shift 2
    done
    local left
    left=$(hit)
    printf '%-28s %6d %6d\n' "$part" "$left" "$((whole - left))"
}

rm -rf "$copy/tree"
cp -r "$copy/base" "$copy/tree"
whole=$(hit)
printf '%-28s %6s %6s\n' 'a hit above the harness' 'left' 'cost'
printf '%-28s %6d\n' 'whole' "$whole"
without 'without Age' src/exchange/respond.rs 's/seconds\(age\.as_secs\(\)\)/{ let _ = (age, seconds); http::HeaderValue::from_static("0") }/'
without 'without Cache-Status' src/metrics/reporter.rs 's/Outcome::Hit \{ ttl \} => self\.hits\.get\(ttl\)/Outcome::Hit { .. } => HeaderValue::from_static("support-cache;hit;ttl=1")/'
without 'without metrics and log' src/metrics/reporter.rs 's/self\.metrics\.ended\(bucket, &outcome\);/let _ = bucket;/'
without 'without comparing variants' src/key/mod.rs 's/\*self\.bytes == \*variant\.bytes/{ let _ = variant; true }/'
without 'variants of the target alone' src/key/mod.rs 's/let lengths = \[.*?put\(rest, nominated\);/let _ = (scope, scheme, authority, host, extras, nominated, encoded_length, put);\n        let bytes = room.take(target.len());\n        bytes.copy_from_slice(target);/s'
without 'without looking at fields' src/policy/facts.rs 's/fields\.keys\(\)\.enumerate\(\)/fields.keys().enumerate().take(0)/'
without 'without the clock' src/clock.rs 's/    Instant::now\(\)/    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();\n    *START.get_or_init(Instant::now)/'
