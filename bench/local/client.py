"""As little of a WebSocket client as the load needs, so that the load itself costs little."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Callable


class Client(asyncio.Protocol):
    """One WebSocket client."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiter: asyncio.Future[bytes] | None = None
        self.received: list[bytes] = []
        self.on_message: Callable[[bytes], None] | None = None

    @classmethod
    async def open(cls, url: str) -> Client:
        """Connect; raises ConnectionError with the status if it is refused."""
        host_port, _, path = url.removeprefix("ws://").partition("/")
        host, _, port = host_port.partition(":")
        _, client = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        assert client.transport is not None
        client.transport.write(
            f"GET /{path} HTTP/1.1\r\nHost: {host_port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        try:
            await asyncio.wait_for(client.upgraded, 30)
        except BaseException:
            client.transport.abort()
            raise
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        lost = ConnectionError("connection lost")
        if not self.upgraded.done():
            self.upgraded.set_exception(lost)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(lost)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.upgraded.done():
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.upgraded.set_exception(ConnectionError(head.split(b"\r\n", 1)[0].decode()))
                return
            self.buffer = rest
            self.upgraded.set_result(None)
        while len(self.buffer) >= 2:
            size, start = self.buffer[1] & 0x7F, 2
            if size == 126:
                size, start = struct.unpack_from("!H", self.buffer, 2)[0], 4
            elif size == 127:
                size, start = struct.unpack_from("!Q", self.buffer, 2)[0], 10
            if len(self.buffer) < start + size:
                return
            opcode, payload = self.buffer[0] & 0x0F, self.buffer[start : start + size]
            self.buffer = self.buffer[start + size :]
            if opcode == 1:
                self.message(payload)
            elif opcode == 9:
                self.frame(0xA, payload)

    def message(self, payload: bytes) -> None:
        if self.on_message is not None:
            self.on_message(payload)
        elif self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(payload)
        else:
            self.received.append(payload)

    def frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        head = (
            bytes([0x80 | opcode, 0x80 | size])
            if size < 126
            else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
        )
        if self.transport is not None:
            self.transport.write(head + b"\0\0\0\0" + payload)  # a mask of zeros leaves the payload as it is

    def send(self, payload: bytes) -> None:
        self.frame(1, payload)

    async def receive(self) -> bytes:
        if self.received:
            return self.received.pop(0)
        self.waiter = asyncio.get_running_loop().create_future()
        return await asyncio.wait_for(self.waiter, 30)

    def close(self) -> None:
        self.frame(8, b"\x03\xe8")
        if self.transport is not None:
            self.transport.close()
