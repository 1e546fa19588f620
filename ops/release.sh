#!/usr/bin/env bash
# Releases a version: bash ops/release.sh VERSION [--publish]
#
# Without --publish it checks everything, packs the crate, and changes nothing. With it, the crate is published and
# the tag made; pushing is left to a person. OWNER.md names what only the owner can give.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=${1:-}
mode=${2:-}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?$ && ($mode == "" || $mode == --publish) ]] || {
    echo "usage: bash ops/release.sh VERSION [--publish]" >&2
    exit 2
}
tag=v$version
missing=0

# want TEXT COMMAND...: notes what is missing unless the command succeeds.
want() {
    if "${@:2}" >/dev/null 2>&1; then
        echo "ok       $1"
    else
        echo "MISSING  $1"
        missing=$((missing + 1))
    fi
}

is_clean() { [[ -z $(git status --porcelain) ]]; }
is_main() { [[ $(git rev-parse --abbrev-ref HEAD) == main ]]; }
is_untagged() { ! git rev-parse --verify --quiet "refs/tags/$tag"; }
has_contact() { grep -q '^Security contact: .*@' OWNER.md; }
has_heading() { grep -q "^## \[$version\] - 20[0-9][0-9]-[01][0-9]-[0-3][0-9]$" CHANGELOG.md; }
has_link() { grep -q "^\[$version\]: https://" CHANGELOG.md; }

want "the version in Cargo.toml is $version" grep -qx "version = \"$version\"" Cargo.toml
want "CHANGELOG.md has the section [$version] with its day" has_heading
want "CHANGELOG.md links [$version] to its changes" has_link
want "Cargo.toml names the repository" grep -q '^repository = "https://' Cargo.toml
want "OWNER.md has a security contact" has_contact
want "the branch is main" is_main
want "nothing is uncommitted" is_clean
want "there is no tag $tag" is_untagged
want "a key for signing is set" git config user.signingkey

bash tests/package.sh
bash tests/heavy.sh semver
cargo publish --dry-run --allow-dirty

if ((missing)); then
    echo "release.sh: $missing of the above are missing; nothing is published"
    exit 1
fi
if [[ $mode != --publish ]]; then
    echo "release.sh: ready; run it again with --publish"
    exit 0
fi
cargo publish
git tag --sign --message "$version" "$tag"
echo "release.sh: published; now run: git push origin main $tag"
