#!/usr/bin/env bash
# Explores interleavings of flights, the sequence, cancellation and invalidation (src/verify/model/).
# MODEL_ITERATIONS sets how many schedules each model tries, by each of two schedulers.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/model"
RUSTFLAGS="--cfg shuttle" cargo test --release --lib model:: "$@"
