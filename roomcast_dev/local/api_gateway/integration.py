"""Runs the function behind a route and reads its result as API Gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from roomcast_dev.local.api_gateway.problem import ProblemError
from roomcast_dev.local.lambda_host.invocation import FunctionError, Invoke


async def integrate(
    invoke: Invoke, function: str, event: Mapping[str, Any], timeout: float
) -> tuple[int, dict[str, Any]]:
    """Run one event of a route.

    Args:
        timeout: seconds until the gateway gives up.

    Returns:
        The status code, and the result that holds it.

    Raises:
        ProblemError: the function failed, took too long, or returned no status code.
    """
    try:
        result = await asyncio.wait_for(invoke(function, event), timeout)
    except FunctionError as failure:
        raise ProblemError(502, "Internal server error", str(failure)) from failure
    except TimeoutError:
        raise ProblemError(504, "Endpoint request timed out", f"no answer in {timeout:.0f} s") from None
    code = result.get("statusCode") if isinstance(result, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code)
    if not isinstance(code, int) or isinstance(code, bool) or not 100 <= code <= 599:
        raise ProblemError(502, "Internal server error", "the function returned no proper statusCode")
    return code, result
