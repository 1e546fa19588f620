#!/usr/bin/env bash
# The jobs that are too long for tests/run.sh, one a sub-command. Each installs the cargo tool that it
# needs. The toolchain for those that need nightly is NIGHTLY (default: nightly).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NIGHTLY=${NIGHTLY:-nightly}

# tool SUBCOMMAND CRATE: makes sure that `cargo SUBCOMMAND` is there.
tool() {
    cargo "$1" --version >/dev/null 2>&1 || cargo install --locked "$2"
}

# Goes to a copy of the library without what its tests and examples need, and without its workspace.
library() {
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    cp -r README.md src "$copy"
    sed -e '/^\[workspace\]/,/^$/d' -e '/^\[dev-dependencies\]/,/^$/d' \
        -e '/^\[\[test\]\]/,/^$/d' -e '/^\[\[example\]\]/,/^$/d' Cargo.toml >"$copy/Cargo.toml"
    cd "$copy"
}

# Every combination of up to three features compiles without a warning. No item depends on more of them than that;
# all of them at once are built by each test.
powerset() {
    tool hack cargo-hack
    library
    RUSTFLAGS="-D warnings" cargo hack check --feature-powerset --depth 3 --skip default "$@"
}

# The oldest direct dependencies that Cargo.toml admits suffice to build the library.
minimal() {
    library
    cargo "+$NIGHTLY" update -Z direct-minimal-versions
    cargo check --all-features
}

# The version that Cargo.toml declares suffices.
msrv() {
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    rustup toolchain install --profile minimal "$version"
    cargo "+$version" check --all-features
}

# Miri on the leaves and rules: they have neither I/O nor tasks.
miri() {
    rustup component add --toolchain "$NIGHTLY" miri
    # Property tests run many cases, each of which is slow here. What is kept for good
    # (src/entry/interned.rs) is no leak.
    PROPERTY_CASES=4 MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks" \
        cargo "+$NIGHTLY" miri test --lib --all-features -- \
        budget:: entry:: key:: outcome:: sequence:: policy:: route::
}

# The docs as docs.rs builds them, with the feature that each item needs.
docs() {
    RUSTDOCFLAGS="-D warnings --cfg docsrs" cargo "+$NIGHTLY" doc --no-deps --all-features
}

# Each fuzz target for a minute.
fuzz() {
    tool fuzz cargo-fuzz
    NIGHTLY="$NIGHTLY" bash tests/fuzz.sh 60
}

# Some tests start servers of their own.
server() {
    command -v redis-server >/dev/null && return
    echo "tests/heavy.sh: \`redis-server\` is missing; tests/run.sh installs it" >&2
    exit 1
}

# Each known mistake is found by the tests that it names.
mistakes() {
    server
    bash tests/mistakes.sh "$@"
}

# Changes of the leaves and rules, as cargo-mutants makes them, are found by some test. Arguments go to
# cargo-mutants: `bash tests/heavy.sh mutants --shard 1/8`, or `-f src/fence/sequence.rs`.
mutants() {
    local version=27.1.0
    [ "$(cargo mutants --version 2>/dev/null)" = "cargo-mutants $version" ] ||
        cargo install --locked cargo-mutants --version "$version"
    cargo mutants --config tests/mutants.toml --in-place=false --output target "$@"
}

# Processes read and write over one Redis through every fault, millions of times; and with near caches,
# whose messages may be on their way.
history() {
    server
    local scenario
    for scenario in near near-rests near-silent long; do
        cargo test --release --all-features --test redis_history "$scenario"
    done
}

# The suite of https://cache-tests.fyi against the reverse proxy; CACHE_TESTS is its clone, if GitHub is away.
suite() {
    bash tests/http_suite.sh
}

licences() {
    tool deny cargo-deny
    cargo deny --workspace --all-features check bans licenses sources
}

advisories() {
    tool deny cargo-deny
    cargo deny --workspace --all-features check advisories
}

# What measures the cache beside its peers builds. It drags in all of them.
peers() {
    local bench
    for bench in peers hit_ratio; do
        RUSTFLAGS="-D warnings" cargo check --locked --all-targets --manifest-path "benches/$bench/Cargo.toml"
    done
}

# The public API changes as the version says, against the last tag.
semver() {
    local last
    last=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) || {
        echo "tests/heavy.sh: no version is tagged yet, so there is nothing to compare with"
        return
    }
    tool semver-checks cargo-semver-checks
    cargo semver-checks --all-features --baseline-rev "$last"
}

# Crates whose types are in the public API are those of tests/external_types.txt. (cargo-check-external-types
# would need a nightly of its own.)
external() {
    cargo "+$NIGHTLY" rustdoc --quiet --lib --all-features -- -Z unstable-options --output-format json
    diff <(sed 's/ *#.*//' tests/external_types.txt) \
        <(python3 tests/external_types.py "${CARGO_TARGET_DIR:-target}/doc/tower_support_cache.json" | cut -d' ' -f1)
}

# What is uploaded is complete and builds by itself.
package() {
    bash tests/package.sh
    cargo package --allow-dirty
}

# A release of the present version, up to but without the upload. Says what only the owner can give.
release() {
    bash ops/release.sh "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)"
}

jobs=(powerset minimal msrv miri docs mistakes mutants history suite peers fuzz licences advisories semver external package release)

case " ${jobs[*]} " in
    *" ${1:-} "*) "$@" ;;
    *)
        printf 'usage: bash tests/heavy.sh JOB [ARGUMENT...]\njobs: %s\n' "${jobs[*]}"
        [ $# -eq 0 ]
        ;;
esac
