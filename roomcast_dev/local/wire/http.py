"""HTTP on the wire: requests and WebSocket handshakes as callbacks, nothing of API Gateway.

One `asyncio.Protocol` parses HTTP with httptools and hands a handshake on as an `Upgrade`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import httptools
from websockets.datastructures import Headers
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol

from roomcast_dev.local.wire.messages import RESET, OnRequest, Request, Response, serialize
from roomcast_dev.local.wire.sockets import BACKLOG
from roomcast_dev.local.wire.websocket import Upgrade, WebSocket, WebSocketEvents

MAX_BODY = 8 * 1024 * 1024  # ours: above Lambda's 6 MB response and SQS's 1 MiB, below what hurts

OnUpgrade = Callable[[Upgrade], None]


class Listener:
    """A server on loopback and the connections that it has taken."""

    def __init__(self, on_request: OnRequest, on_upgrade: OnUpgrade | None = None) -> None:
        self._on_request = on_request
        self._on_upgrade = on_upgrade
        self._servers: list[asyncio.Server] = []
        self.transports: set[asyncio.Transport] = set()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Take connections from sockets that listen already."""
        for sock in sockets:
            self._servers.append(
                await asyncio.get_running_loop().create_server(self._protocol, sock=sock, backlog=BACKLOG)
            )

    def close(self) -> None:
        """Take no more connections, and cut those that are open."""
        for server in self._servers:
            server.close()
        for transport in list(self.transports):
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until every connection has been cut."""
        while self.transports:
            await asyncio.sleep(0)

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(self._on_request, self._on_upgrade, self.transports)


class HttpProtocol(asyncio.Protocol):
    """Parses requests, answers them in order, hands Upgrades on."""

    def __init__(
        self,
        on_request: OnRequest,
        on_upgrade: OnUpgrade | None,
        transports: set[asyncio.Transport],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.transports = transports
        self._early = bytearray()
        self._on_request = on_request
        self._on_upgrade = on_upgrade
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False
        self._upgrading = False
        self._upgrade_request: Request | None = None
        self._raw_headers: list[tuple[str, str]] = []
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._size = 0

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transports.add(self.transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.transport is not None:
            self.transports.discard(self.transport)
        self.transport = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._upgrading:
            self._early += data
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(Response(400))

    # httptools

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.transport is not None and any(name.lower() == "expect" for name, _ in self._headers):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= MAX_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        if "://" in path:  # absolute form, as a proxy would send it
            path = "/" + path.split("://", 1)[1].partition("/")[2]
        peer = self.transport.get_extra_info("peername") if self.transport else None
        request = Request(
            method=self._parser.get_method().decode(),
            path=path,
            query_string=query,
            headers={name.lower(): value for name, value in self._headers},
            body=b"".join(self._body),
            source_ip=peer[0] if peer else "",
        )
        too_large, self._raw_headers = self._size > MAX_BODY, self._headers
        upgrade = self._parser.should_upgrade()
        keep_alive = self._parser.should_keep_alive()
        self._reset()
        if upgrade:
            self._upgrade_request = request
        elif too_large:
            self.refuse(Response(413))
        elif self._busy:
            self._waiting.append((request, keep_alive))
        else:
            self._start(request, keep_alive)

    # Requests

    def _start(self, request: Request, keep_alive: bool) -> None:
        self._busy = True

        def respond(response: Response) -> None:
            if self.transport is None:
                return
            if response is RESET:
                self.transport.abort()
                return
            self.transport.write(serialize(response, keep_alive, head=request.method == "HEAD"))
            self._busy = False
            if not keep_alive:
                self.transport.close()
            elif self._waiting:
                self._start(*self._waiting.popleft())

        self._on_request(request, respond)

    def refuse(self, response: Response) -> None:
        """Answer and close."""
        if self.transport is not None:
            self.transport.write(serialize(response, keep_alive=False))
            self.transport.close()

    # Upgrades

    def _upgrade(self, rest: bytes) -> None:
        request = self._upgrade_request
        if request is None or self._on_upgrade is None or self.transport is None:
            self.refuse(Response(400))
            return
        self._upgrading = True
        target = request.path + (f"?{request.query_string}" if request.query_string else "")
        headers = Headers(self._raw_headers)
        answer = ServerProtocol().accept(HandshakeRequest(target, headers))
        if answer.status_code != 101:
            kept = {"Upgrade": "websocket"} if answer.status_code == 426 else {}
            if version := answer.headers.get("Sec-WebSocket-Version"):
                kept["Sec-WebSocket-Version"] = version
            self.refuse(Response(answer.status_code, bytes(answer.body), kept))
            return
        self._early += rest
        head = answer.serialize()
        self._on_upgrade(
            Upgrade(
                request,
                self._raw_headers,
                accept=lambda events, subprotocol: self._accept(head, events, subprotocol),
                refuse=self.refuse,
            )
        )

    def _accept(self, head: bytes, events: WebSocketEvents, subprotocol: str | None) -> WebSocket | None:
        transport = self.transport
        if transport is None:
            return None
        if subprotocol is not None:
            head = head[:-2] + f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
        websocket = WebSocket(transport, events, self.transports)
        transport.set_protocol(websocket)
        transport.write(head)
        early, self._early = bytes(self._early), bytearray()
        if early:
            websocket.data_received(early)
        return websocket
