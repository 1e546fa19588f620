#!/usr/bin/env bash
# Checks the spelling of documents, comments and messages with codespell. Links, sentences and defaults are
# checked by tests/it/documents.rs, code blocks by the doctests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v codespell >/dev/null || {
    echo "tests/docs.sh: \`codespell\` is missing; tests/run.sh installs it" >&2
    exit 1
}
# Names of fields, methods and types that the dictionary takes for misspelt words.
git ls-files -z '*.md' '*.rs' '*.sh' '*.toml' '*.yml' |
    xargs -0 codespell --ignore-words-list "crate,ser,te,get's,inforce"
