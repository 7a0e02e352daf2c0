"""One open WebSocket on the wire, and the handshake that leads to it.

`WebSocket` drives the Sans-I/O protocol of `websockets`: it sees frames, so the limit on a frame and the
limit on a message can be told apart.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from roomcast_dev.local.wire.messages import Request, Response
from roomcast_dev.local.wire.sockets import cut_after, half_close

MAX_MESSAGE = 128 * 1024  # API Gateway quota: WebSocket message payload
MAX_FRAME = 32 * 1024  # API Gateway quota: WebSocket frame


class WebSocketEvents(Protocol):
    """What the owner of a `WebSocket` is called with."""

    def on_text(self, text: str) -> None: ...

    def on_close(self, code: int, reason: str) -> None: ...


class WebSocket(asyncio.Protocol):
    """An open WebSocket. Text in by `on_text`; `on_close` comes exactly once, whatever ended it."""

    __slots__ = ("_closed", "_events", "_parts", "_timer", "_transport", "_transports", "_ws")

    def __init__(
        self, transport: asyncio.Transport, events: WebSocketEvents, transports: set[asyncio.Transport]
    ) -> None:
        self._transport = transport
        self._transports = transports
        self._events = events
        self._ws = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE)
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []

    @property
    def open(self) -> bool:
        return self._ws.state is State.OPEN

    @property
    def unsent(self) -> int:
        """Bytes that wait because the client does not read."""
        return self._transport.get_write_buffer_size()

    def send(self, payload: bytes) -> None:
        """Send one text frame; only while it is open."""
        size = len(payload)  # RFC 6455, 5.2: FIN and text, not masked, the shortest form of the length
        if size < 126:
            head = bytes((0x81, size))
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x81, 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 127, size)
        self._transport.write(head + payload)

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; a client that does not end it is cut off after `END_TIMEOUT`."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(code, reason)
            self._end(code, reason)
            self._flush()
            self._cut_off()

    def abort(self) -> None:
        """Drop the TCP connection without a close frame."""
        self._transport.abort()

    # asyncio

    def data_received(self, data: bytes) -> None:
        self._ws.receive_data(data)
        for frame in self._ws.events_received():
            if not isinstance(frame, Frame):
                continue
            # `ServerProtocol` has a limit for frames too, but only since websockets 16; other packages in a
            # project (Supabase's client, say) may ask for an older one.
            if len(frame.data) > MAX_FRAME:
                self._fail(1009, f"frame of {len(frame.data)} bytes; the limit is {MAX_FRAME}")
            elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
                self._parts.append(bytes(frame.data))
                if frame.fin:
                    payload, self._parts = b"".join(self._parts), []
                    self._text(payload)
            elif frame.opcode is Opcode.BINARY:
                self._fail(1003, "Binary frames are not supported")
        self._flush()
        if self._ws.close_sent is not None and not self._closed:
            if self._ws.close_rcvd is not None and self._ws.close_rcvd_then_sent:
                self._end(self._ws.close_rcvd.code, self._ws.close_rcvd.reason)
            else:
                self._end(self._ws.close_sent.code, self._ws.close_sent.reason)
        if self._ws.close_sent is not None:
            self._cut_off()

    def eof_received(self) -> bool:
        self._ws.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transports.discard(self._transport)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end(1006, "Connection Closed Abnormally")

    # Helpers

    def _text(self, payload: bytes) -> None:
        if self._ws.state is not State.OPEN:
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self._fail(1007, "Invalid UTF-8")
        else:
            self._events.on_text(text)

    def _fail(self, code: int, reason: str) -> None:
        if self._ws.state is State.OPEN:
            self._ws.fail(code, reason)

    def _flush(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self._transport.write(data)
            else:
                half_close(self._transport)

    def _cut_off(self) -> None:
        if self._timer is None and not self._transport.is_closing():
            self._timer = cut_after(self._transport)

    def _end(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._events.on_close(code, reason)


@dataclass(frozen=True, slots=True, eq=False)
class Upgrade:
    """A WebSocket handshake that waits for a decision: `accept` or `refuse` it, once."""

    request: Request
    headers: list[tuple[str, str]]
    """As they came: spelling, order and repetitions."""
    accept: Callable[[WebSocketEvents, str | None], WebSocket | None]
    """Open the WebSocket, with the subprotocol to answer if any; `None` if the client has left."""
    refuse: Callable[[Response], None]
    """Answer the handshake with an HTTP response and end the connection."""
