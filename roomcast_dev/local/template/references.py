"""Looks things up in a CloudFormation template: resources by type, and what an expression refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def of_type(template: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every resource of a type, with its logical id."""
    for logical_id, resource in template.get("Resources", {}).items():
        if resource["Type"] == kind:
            yield logical_id, {"Properties": {}, **resource}


def references(node: Any) -> Iterator[str]:
    """Every logical id that an expression refers to."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value.split(".", 1)[0] if isinstance(value, str) else value[0]
            else:
                yield from references(value)


def reference(node: Any) -> str | None:
    """The first logical id that an expression refers to."""
    return next(references(node), None)
