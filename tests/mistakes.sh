#!/usr/bin/env bash
# Makes each known mistake (tests/mistakes/*.patch) in a copy of the tree, runs the tests that the patch
# names, and fails unless each of them fails.
#
#   tests/mistakes.sh [NAME...]              all mistakes, or these
#   tests/mistakes.sh --applies [NAME...]    only checks that the patches apply and the tests are there
#
# A patch begins with a line `Fails: BINARY TEST` for each test that must fail. BINARY is a test binary,
# `lib`, or `model` for tests/model.sh, which has no TEST. A mistake that does not compile is not found; a
# test that hangs has found it. MISTAKES_TIMEOUT is the limit of a test, in seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
applies=
if [ "${1:-}" = --applies ]; then
    applies=1
    shift
fi
names=("$@")
if [ $# -eq 0 ]; then
    names=(tests/mistakes/*.patch)
    names=("${names[@]##*/}")
    names=("${names[@]%.patch}")
fi
scratch=${CARGO_TARGET_DIR:-$root/target}/mistakes
tree=$scratch/tree
export CARGO_TARGET_DIR=$scratch/build CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TERM_COLOR=never
limit=${MISTAKES_TIMEOUT:-120}
log=$scratch/log
bad=()
found=0
started=$SECONDS

# Brings the copy to the state of the tree. Files that are the same keep their time, so that cargo builds
# no more than what has changed.
copy() {
    mkdir -p "$tree"
    local file
    while IFS= read -r -d '' file; do
        [ -f "$root/$file" ] || rm -f "$tree/$file"
    done < <(cd "$tree" && find . -type f -print0)
    while IFS= read -r -d '' file; do
        if [ -f "$file" ] && ! cmp -s "$file" "$tree/$file"; then
            mkdir -p "$tree/$(dirname "$file")"
            cp "$file" "$tree/$file"
        fi
    done < <(git ls-files -z --cached --others --exclude-standard)
}

# The tests of a patch: binary and name.
tests_of() { sed -n '/^--- /q; s/^Fails: //p' "$patches/$1.patch" | sort; }

# The files that a patch changes.
files() { sed -n 's/^+++ b\///p' "$patches/$1.patch"; }

# apply NAME [OPTION]
apply() { patch -d "$tree" -p1 -F3 --force "${@:2}" <"$patches/$1.patch" >"$log" 2>&1; }

save() {
    local file
    rm -rf "$scratch/saved"
    for file in $(files "$1"); do
        mkdir -p "$scratch/saved/$(dirname "$file")"
        cp "$tree/$file" "$scratch/saved/$file"
    done
}

revert() {
    local file
    for file in $(files "$1"); do cp "$scratch/saved/$file" "$tree/$file"; done
}

# Runs a test against the mistake; true if the test finds it.
finds() {
    local binary=$1 test=${2:-} status=0 runner
    if [ "$binary" = model ]; then
        (cd "$tree" && timeout 1200 bash tests/model.sh) >"$log" 2>&1 || status=$?
        [ "$status" -ne 0 ] && ! grep -q '^error: could not compile' "$log"
        return
    fi
    if [ "$binary" = lib ]; then runner=(--lib); else runner=(--test "$binary"); fi
    runner=(cargo test --quiet --all-features "${runner[@]}")
    (cd "$tree" && "${runner[@]}" --no-run) >"$log" 2>&1 || return 1
    # The history checker has no harness.
    if [ "$binary" = redis_history ]; then runner+=(-- "$test"); else runner+=(-- --exact "$test"); fi
    (cd "$tree" && timeout "$limit" "${runner[@]}") >"$log" 2>&1 || status=$?
    [ "$status" -ne 124 ] || hung=", hung"
    [ "$status" -ne 0 ] && ! grep -q '^running 0 tests' "$log"
}

# The files in which a test may be, by its module.
homes() {
    local folder=$tree/tests/$1 module=${2%::*}
    [ "$1" != lib ] || folder=$tree/src
    module=${module%::tests}
    module=${module//:://}
    printf '%s\n' "$folder/$module.rs" "$folder/$module/mod.rs" "$folder/main.rs" "$folder.rs"
}

# Checks that a mistake names tests that there are. The history checker has scenarios, the model none.
check() {
    local binary test homes
    while read -r binary test; do
        case $binary in
            model | redis_history) ;;
            *)
                mapfile -t homes < <(homes "$binary" "$test")
                grep -qsE "fn ${test##*:}\b" "${homes[@]}" || bad+=("$1: no test is called $test")
                ;;
        esac
    done < <(tests_of "$1")
    [ -n "$(tests_of "$1")" ] || bad+=("$1: it names no test")
}

# Makes a mistake and runs its tests, those of one binary together.
try() {
    local name=$1 binary test begun=$SECONDS hung=
    while read -r binary test; do
        if ! finds "$binary" "$test" </dev/null; then
            bad+=("$name: $binary $test")
            printf 'MISSED  %-60s %s %s\n' "$name" "$binary" "$test"
            tail -n 20 "$log"
            return
        fi
    done < <(tests_of "$name")
    found=$((found + 1))
    printf 'found   %-60s %3d s%s\n' "$name" "$((SECONDS - begun))" "$hung"
}

# The name of each mistake, by the binary of its first test and the file it is in: so least is built.
ordered() {
    local name
    for name in "${names[@]}"; do
        printf '%s\t%s\t%s\n' "$(tests_of "$name" | head -n 1)" "$(files "$name" | head -n 1)" "$name"
    done | sed 's/ [^\t]*//' | sort | cut -f 3
}

for name in "${names[@]}"; do
    if [ ! -f "tests/mistakes/$name.patch" ]; then
        echo "tests/mistakes.sh: no mistake is called $name" >&2
        exit 1
    fi
done

mkdir -p "$scratch"
# Copied once, patches included, so that edits meanwhile change nothing.
if [ -n "$applies" ]; then tree=$root; else copy; fi
patches=$tree/tests/mistakes
for name in $(ordered); do
    if ! apply "$name" --dry-run; then
        cat "$log"
        bad+=("$name: does not apply")
    elif [ -n "$applies" ]; then
        check "$name"
    else
        save "$name"
        apply "$name"
        try "$name"
        revert "$name"
    fi
done

if [ -n "$applies" ]; then
    printf '%d mistakes, %d faults\n' "${#names[@]}" "${#bad[@]}"
else
    printf '%d of %d mistakes found in %d s\n' "$found" "${#names[@]}" "$((SECONDS - started))"
fi
if [ ${#bad[@]} -gt 0 ]; then
    printf '%s\n' "${bad[@]}"
    exit 1
fi
