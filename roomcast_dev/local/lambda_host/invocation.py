"""One event on its way through a function, and the ways in which it gives no result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Invoke = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Runs a function, by logical id, with an event; raises `FunctionError`."""


class FunctionError(Exception):
    """The function returned no result: it raised, ended, could not start, or took too long."""

    def __init__(self, function: str, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.function = function
        self.kind = kind
        self.message = message


class FunctionTimeoutError(FunctionError):
    """The function did not finish within its timeout; its worker was ended."""


@dataclass(slots=True)
class Invocation:
    """One event, and its result to come."""

    request_id: str
    event: bytes
    result: asyncio.Future[Any]

    def fail(self, error: FunctionError) -> None:
        """End it with an error, unless its caller has given up."""
        if not self.result.done():
            self.result.set_exception(error)
