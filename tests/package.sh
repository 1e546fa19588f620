#!/usr/bin/env bash
# Checks that the crate is uploaded with the files of tests/package.txt, all of src and docs, and with no others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packed=$(cargo package --list --allow-dirty --quiet)
# Cargo adds these itself.
added='^(\.cargo_vcs_info\.json|Cargo\.lock|Cargo\.toml\.orig)$'
diff -u tests/package.txt <(grep -vE "^(src|docs)/|$added" <<<"$packed" | LC_ALL=C sort) ||
    { echo "tests/package.sh: the crate's files are not those of tests/package.txt" >&2; exit 1; }
diff -u <(git ls-files src docs | LC_ALL=C sort) <(grep -E '^(src|docs)/' <<<"$packed" | LC_ALL=C sort) ||
    { echo "tests/package.sh: not all of src and docs is uploaded, or more than is committed" >&2; exit 1; }
