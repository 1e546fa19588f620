#!/usr/bin/env bash
# Runs each fuzz target of fuzz/ for some time: tests/fuzz.sh [SECONDS], 30 each if left out. Needs
# cargo-fuzz and a nightly toolchain (NIGHTLY, default: nightly). What the targets check is in
# src/verify/fuzzing.rs; its property tests run with `cargo test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-30}
nightly=${NIGHTLY:-nightly}

fail() {
    printf 'tests/fuzz.sh: %s\n' "$*" >&2
    exit 1
}

[[ "$seconds" =~ ^[0-9]+$ ]] || fail "usage: tests/fuzz.sh [SECONDS]"
cargo fuzz --version >/dev/null 2>&1 || fail "cargo-fuzz is missing: cargo install --locked cargo-fuzz"
cargo "+$nightly" --version >/dev/null 2>&1 ||
    fail "no toolchain is called $nightly: rustup toolchain install nightly, or set NIGHTLY"

failed=()
for file in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$file" .rs)
    printf '== %s, %d s\n' "$target" "$seconds"
    cargo "+$nightly" fuzz run "$target" -- \
        -max_total_time="$seconds" -timeout=10 -dict="fuzz/$target.dict" -print_final_stats=1 ||
        failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then fail "found a fault: ${failed[*]}"; fi
echo "tests/fuzz.sh: no fault found"
