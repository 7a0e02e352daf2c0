"""What one HTTP request and its answer look like inside the local gateway.

Everything that is not a WebSocket handshake arrives as a `Request`: the management API
(`@connections`) and, for every other path, the demo page. `roomcast_dev.local.demo.create(environment)` makes
the handler of the latter, where `environment` is what the run writes into the env file
(`WEBSOCKET_API_ENDPOINT`, `JWT_SECRET`, `AWS_ENDPOINT_URL`, ...).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, its body read whole."""

    method: str
    path: str
    """Percent-encoded as it came, without the query."""
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; of a repeated header the last value."""
    body: bytes = b""
    source_ip: str = "127.0.0.1"

    @property
    def query(self) -> dict[str, str]:
        """Query parameters, decoded; of a repeated one the last value."""
        return {
            name: values[-1] for name, values in parse_qs(self.query_string, keep_blank_values=True).items()
        }


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a `Request`. `Content-Length` is added by the server."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Answer with `value` as JSON."""
        return cls(
            status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )


Handler = Callable[[Request], Awaitable[Response | None]]
"""Answers a request, or says `None`: not mine, so the server answers 404."""
