#!/usr/bin/env python3
"""Names the crates whose types or traits are in the public API, by rustdoc's JSON.

A major release of one of them is a major release of this crate, so tests/external_types.txt lists them all.
`bash tests/heavy.sh external` makes the JSON and runs this.
"""

import json
import sys

OWN = 0
# These change with the language.
STANDARD = {"std", "core", "alloc", "proc_macro"}


def references(value):
    """Yields the id of each type and trait that a part of a signature names."""
    if isinstance(value, dict):
        if "id" in value and ("path" in value or "name" in value) and "args" in value:
            yield value["id"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def children(item):
    """Returns the ids of the items within an item."""
    kind, inner = next(iter(item["inner"].items()))
    if kind == "use":
        return [inner["id"]] if inner["id"] is not None else []
    if kind == "struct":
        fields = inner["kind"]
        named = fields["plain"]["fields"] if isinstance(fields, dict) and "plain" in fields else []
        tuple_fields = fields["tuple"] if isinstance(fields, dict) and "tuple" in fields else []
        return named + [field for field in tuple_fields if field is not None] + inner["impls"]
    if kind == "enum":
        return inner["variants"] + inner["impls"]
    if kind == "variant":
        fields = inner["kind"]
        if isinstance(fields, dict) and "tuple" in fields:
            return [field for field in fields["tuple"] if field is not None]
        return fields["struct"]["fields"] if isinstance(fields, dict) and "struct" in fields else []
    return inner.get("items", []) if isinstance(inner, dict) else []


def is_derived(item):
    """Says whether an impl is the compiler's or a blanket one of another crate."""
    impl = item["inner"].get("impl")
    return impl is not None and (impl["is_synthetic"] or impl["blanket_impl"] is not None)


def signature(item):
    """Returns an item without the items in it, which are visited by themselves."""
    nested = {"items", "impls", "variants", "fields", "implementations"}
    inner = next(iter(item["inner"].values()))
    return {key: part for key, part in inner.items() if key not in nested} if isinstance(inner, dict) else inner


def main(path):
    with open(path, encoding="utf-8") as file:
        doc = json.load(file)
    index, names = doc["index"], doc["paths"]
    found, seen, pending = {}, set(), [doc["root"]]
    while pending:
        item = index.get(str(pending.pop()))
        if item is None or item["id"] in seen or item["crate_id"] != OWN or is_derived(item):
            continue
        seen.add(item["id"])
        pending += children(item)
        for reference in references(signature(item)):
            named = names.get(str(reference))
            if named is not None and named["crate_id"] != OWN:
                crate = doc["external_crates"][str(named["crate_id"])]["name"]
                found.setdefault(crate, set()).add("::".join(named["path"]))
    for crate in sorted(found.keys() - STANDARD):
        print(crate, *sorted(found[crate]))


main(sys.argv[1])
