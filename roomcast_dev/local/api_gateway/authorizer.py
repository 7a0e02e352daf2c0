"""REQUEST authorizers of `$connect`: who is let in, and what later events carry about them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from roomcast_dev.local.api_gateway.limits import MAX_AUTHORIZER_RESULT
from roomcast_dev.local.api_gateway.problem import ProblemError
from roomcast_dev.local.lambda_host.invocation import FunctionError, Invoke
from roomcast_dev.local.template.model import ACCOUNT, API_ID, REGION, Authorizer


async def authorize(
    authorizer: Authorizer, event: Mapping[str, Any], *, stage: str, invoke: Invoke
) -> dict[str, Any]:
    """Ask an authorizer about a handshake.

    Args:
        event: of `$connect`.

    Returns:
        The `authorizer` part of this connection's events.

    Raises:
        ProblemError: 401, 403, or 500 where the authorizer itself failed.
    """
    if any(not _identity(source, event) for source in authorizer.identity_sources):
        raise ProblemError(401, "Unauthorized", "an identity source of the authorizer is missing")
    arn = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{API_ID}/{stage}/$connect"
    request = {**event, "type": "REQUEST", "methodArn": arn, "stageVariables": {}}
    for key in ("queryStringParameters", "multiValueQueryStringParameters"):
        request.setdefault(key, {})
    started = time.perf_counter()
    try:
        result = await invoke(authorizer.function, request)
    except FunctionError as failure:
        if failure.message == "Unauthorized":
            raise ProblemError(401, "Unauthorized", "the authorizer raised Unauthorized") from failure
        raise ProblemError(500, "Internal server error", f"authorizer: {failure}") from failure
    if len(json.dumps(result)) > MAX_AUTHORIZER_RESULT:
        raise ProblemError(
            500, "Internal server error", f"the authorizer's result is over {MAX_AUTHORIZER_RESULT} bytes"
        )
    try:
        allowed = _allows(result["policyDocument"], arn)
        context = {str(k): _context_text(v) for k, v in (result.get("context") or {}).items()}
        principal = str(result["principalId"])
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        reason = f"the authorizer's result is malformed: {problem!r}"
        raise ProblemError(500, "Internal server error", reason) from problem
    if not allowed:
        raise ProblemError(403, "Forbidden", "the authorizer denied")
    latency = int((time.perf_counter() - started) * 1000)
    return {"principalId": principal, "integrationLatency": latency, **context}


def _identity(source: str, event: Mapping[str, Any]) -> str:
    """The value of an identity source, such as `route.request.querystring.token`."""
    _, _, kind, name = (source.split(".", 3) + [""] * 3)[:4]
    if kind == "querystring":
        return str((event.get("queryStringParameters") or {}).get(name, ""))
    if kind == "header":
        headers = {key.lower(): value for key, value in event["headers"].items()}
        return str(headers.get(name.lower(), ""))
    value: Any = event["requestContext"]
    for part in source.removeprefix("context.").split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def _allows(policy: Mapping[str, Any], arn: str) -> bool:
    """Evaluate a policy: an explicit Deny wins, and what is not allowed is denied."""
    statements = policy["Statement"]
    effects = set()
    for statement in [statements] if isinstance(statements, dict) else statements:
        resources, actions = statement["Resource"], statement["Action"]
        if not _matches(actions, "execute-api:Invoke", ignore_case=True):
            continue
        if _matches(resources, arn):
            effects.add(statement["Effect"])
    return "Allow" in effects and "Deny" not in effects


def _matches(patterns: str | list[str], text: str, *, ignore_case: bool = False) -> bool:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, text, re.IGNORECASE if ignore_case else 0):
            return True
    return False


def _context_text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise TypeError("a context value is an object or a list")
    return value if isinstance(value, str) else json.dumps(value)
