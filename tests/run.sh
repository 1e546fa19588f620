#!/usr/bin/env bash
# Installs what the tests need and runs all of them. Needs a Rust toolchain; asks nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Each step says the seconds that those before it took.
step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

fail() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

# Runs a command as root: as it is, or through sudo where that asks for no password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -n "$@"
    else
        fail "cannot run as root: $*"
    fi
}

# need COMMAND PACKAGE...: makes sure that COMMAND is there, from the first of the packages that the
# system's package manager has (their names differ among systems).
need() {
    local command=$1 package
    shift
    command -v "$command" >/dev/null && return
    step "install $command"
    for package in "$@"; do
        install_package "$package" && command -v "$command" >/dev/null && return
    done
    fail "\`$command\` is missing; install it and run this again"
}

install_package() {
    if command -v apt-get >/dev/null; then
        refresh_apt && as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends "$1"
    elif command -v apk >/dev/null; then
        as_root apk add --no-cache "$1"
    elif command -v brew >/dev/null; then
        HOMEBREW_NO_AUTO_UPDATE=1 brew install "$1"
    else
        fail "none of apt-get, apk, brew is here to install $1"
    fi
}

# Once for all packages.
refresh_apt() {
    [ -n "${apt_is_fresh:-}" ] || as_root apt-get update
    apt_is_fresh=1
}

# Components come with most toolchains; a minimal one of rustup's lacks them.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || fail "\`cargo $1\` is missing"
    rustup component add "$2"
}

# limited SECONDS COMMAND...: macOS has no `timeout`.
limited() {
    if command -v timeout >/dev/null; then timeout "$@"; else "${@:2}"; fi
}

command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || fail "a Rust toolchain is missing: https://rustup.rs"
need_component fmt rustfmt
need_component clippy clippy
need curl curl
need node nodejs node
need npm npm nodejs
# Debian and Ubuntu name it after the server, Alpine and Homebrew after the project. The tests start
# servers of their own on free ports.
need redis-server redis-server redis
need redis-cli redis-tools redis
need openssl openssl
need perl perl
need patch patch
need codespell codespell
need promtool prometheus
# The page's test takes these names; on macOS set CHROMIUM to a browser's path.
[ -n "${CHROMIUM:-}" ] || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    need chromium chromium
# The counts of instructions need valgrind, which is for Linux.
if [ "$(uname)" = Linux ]; then
    need valgrind valgrind
    need python3 python3
    counts=benches/guard.sh
else
    printf 'not Linux: instructions are not counted here\n'
    counts=
fi

# What would speed up a second build is bytes on the disk that a run of everything does not need.
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
started=$SECONDS

step "formatting"
cargo fmt --all --check

step "lock files"
# Each workspace's own is up to date: three of them are built by heavy jobs only.
for manifest in Cargo.toml fuzz/Cargo.toml benches/peers/Cargo.toml benches/hit_ratio/Cargo.toml; do
    cargo update --quiet --workspace --locked --manifest-path "$manifest"
done

step "contents of the package"
bash tests/package.sh

step "planted mistakes apply"
bash tests/mistakes.sh --applies

step "lints"
cargo clippy --workspace --all-targets --all-features -- -D warnings

step "features"
# An unused item or import behind a feature is an error here; the powerset is in tests/heavy.sh.
for features in "" tracing metrics serde axum redis redis-tls redis-sentinel redis-cluster redis-encryption redis-zstd redis,metrics encode config config-schema config,redis testing; do
    printf -- '-- features: %s\n' "${features:-none}"
    cargo clippy --quiet --lib --no-default-features --features "$features" -- -D warnings
done

step "docs"
bash tests/docs.sh
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

step "tests"
cargo test --all-features --no-fail-fast
cargo test -p stacks
cargo test -p example-service
cargo test -p example-prometheus
cargo test -p example-otlp

step "a server under attack"
cargo test -p tower-support-cache-hostile --no-run
# Each of two processes has a thousand connections and more. The attacks take 40 s.
(
    ulimit -n "$(ulimit -Hn)" || true
    limited 120 cargo test -p tower-support-cache-hostile
)

step "a minute of faults"
cargo test -p tower-support-cache-soak --no-run
(
    ulimit -n "$(ulimit -Hn)" || true
    limited 150 cargo test -p tower-support-cache-soak
)

scripts=0
for script in tests/examples.sh tests/portal.sh tests/portal_redis.sh tests/page.sh tests/model.sh $counts; do
    if [ -f "$script" ]; then
        step "$script"
        bash "$script"
        scripts=$((scripts + 1))
    fi
done

printf '\ntests/run.sh: everything passed (cargo test, lints, docs, features, %d scripts) in %d s\n' \
    "$scripts" "$((SECONDS - started))"
