"""One open connection, and what AWS remembers about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from roomcast_dev.local.wire.messages import Request
from roomcast_dev.local.wire.websocket import WebSocket


class OpenConnection:
    """A client's connection, from its handshake on.

    Args:
        connection_id: new.
        request: the handshake.
        on_message: called with the connection and each text that the client sends.
        on_close: called once with the connection, the close code and the reason, whoever ended it.
    """

    __slots__ = (
        "_on_close",
        "_on_message",
        "authorizer",
        "connected_at",
        "connection_id",
        "identity",
        "last_active",
        "opened",
        "websocket",
    )

    def __init__(
        self,
        connection_id: str,
        request: Request,
        *,
        on_message: Callable[[OpenConnection, str], None],
        on_close: Callable[[OpenConnection, int, str], None],
    ) -> None:
        self._on_message = on_message
        self._on_close = on_close
        self.connection_id = connection_id
        self.connected_at = int(time.time() * 1000)
        self.opened = self.last_active = time.monotonic()
        self.identity = {
            "sourceIp": request.source_ip,
            "userAgent": request.headers.get("user-agent", ""),
        }
        self.authorizer: Mapping[str, Any] | None = None
        self.websocket: WebSocket | None = None

    def on_text(self, text: str) -> None:
        self.last_active = time.monotonic()
        self._on_message(self, text)

    def on_close(self, code: int, reason: str) -> None:
        self._on_close(self, code, reason)

    def send(self, payload: bytes) -> None:
        """Send one text frame, if the connection is still open."""
        if self.websocket is not None and self.websocket.open:
            self.last_active = time.monotonic()
            self.websocket.send(payload)

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""
        if self.websocket is not None:
            self.websocket.close(code, reason)
