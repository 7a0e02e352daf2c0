"""IAM's decision on one call: an Allow that matches, and no Deny that does."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.infra.arns import ACCOUNT, PARTITION, Arns, listed


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a service or a role makes.

    Attributes:
        principal: a service, such as `cloudwatch.amazonaws.com`, or the ARN of a role.
        action: such as `sns:Publish`.
        resource: the ARN that it is made on.
        context: the condition keys that the call brings, in lower case.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def allows(statements: Iterable[dict[str, Any]], call: Call, arns: Arns, *, of_role: bool = False) -> bool:
    """Whether these statements let the call through.

    Args:
        statements: of all policies that count together.
        call: what is asked.
        arns: fills in the references.
        of_role: whether they are a role's own, which name no principal.

    Raises:
        AssertionError: a statement holds something that is not known here.
    """
    effects = {
        statement["Effect"] for statement in statements if _matches(statement, call, arns, of_role=of_role)
    }
    return "Allow" in effects and "Deny" not in effects


_KNOWN = {"Action", "Condition", "Effect", "Principal", "Resource", "Sid"}


def _matches(statement: dict[str, Any], call: Call, arns: Arns, *, of_role: bool) -> bool:
    assert set(statement) <= _KNOWN, f"a policy statement with {sorted(set(statement) - _KNOWN)}"
    actions = [arns.fill(action).lower() for action in listed(statement["Action"])]
    if not any(_like(call.action.lower(), action) for action in actions):
        return False
    if not of_role and not _is_principal(statement["Principal"], call.principal, arns):
        return False
    resources = [arns.fill(resource) for resource in listed(statement.get("Resource", "*"))]
    if not any(_like(call.resource, resource) for resource in resources):
        return False
    return all(
        _holds(operator, key.lower(), [arns.fill(value) for value in listed(wanted)], call.context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _is_principal(principal: Any, caller: str, arns: Arns) -> bool:
    if principal == "*":
        return True
    services = [arns.fill(value) for value in listed(principal.get("Service", []))]
    if caller in services:
        return True
    accounts = [arns.fill(value) for value in listed(principal.get("AWS", []))]
    if "*" in accounts or caller in accounts:
        return True
    # The account itself stands for all its roles, which need the right in their own policies as well.
    root = (ACCOUNT, f"arn:{PARTITION}:iam::{ACCOUNT}:root")
    return caller.startswith(f"arn:{PARTITION}:iam::{ACCOUNT}:role/") and any(a in root for a in accounts)


def _holds(operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
    kind = operator.removesuffix("IfExists")
    given = context.get(key)
    if given is None:
        # A key that the call does not bring fails every condition but these.
        return operator.endswith("IfExists") or kind in ("StringNotEquals", "StringNotLike", "ArnNotLike")
    match kind:
        case "StringEquals":
            return given in wanted
        case "StringNotEquals":
            return given not in wanted
        case "Bool":
            return given.lower() in [value.lower() for value in wanted]
        case "StringLike" | "ArnLike" | "ArnEquals":
            return any(_like(given, pattern) for pattern in wanted)
        case "StringNotLike" | "ArnNotLike":
            return not any(_like(given, pattern) for pattern in wanted)
    raise AssertionError(f"a condition {operator}, which is not known here")


def _like(value: str, pattern: str) -> bool:
    # `[` is nothing special to IAM.
    return re.fullmatch(fnmatch.translate(pattern.replace("[", "[[]")), value) is not None
