"""An HTTP request and the response to it, as the local run hands them around."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
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
    """The response to a `Request`. `serialize` adds `Content-Length`."""

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
"""Answers a request, or returns `None` if the path is not its own: the client gets 404."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}

RESET = Response(0)
"""In place of a response: cut the connection."""

Respond = Callable[[Response], None]
"""Sends the response to one request; called once."""

OnRequest = Callable[[Request, Respond], None]


def serialize(response: Response, keep_alive: bool, *, head: bool = False) -> bytes:
    """Write `response` as HTTP/1.1; `head` leaves the body out but counts it."""
    lines = [f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.status != 204:
        lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    text = "\r\n".join(lines) + "\r\n\r\n"
    return text.encode("latin-1", "replace") + (b"" if head else response.body)
