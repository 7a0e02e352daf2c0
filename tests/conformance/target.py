"""What the rows are asked of: the stand-in or API Gateway, reached in the same way."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

SECONDS = 20.0
"""How long anything may take: a cold start is in it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One WebSocket API with its management API.

    Attributes:
        url: where browsers connect, `ws://` or `wss://`, with the stage where it has one.
        callback_url: the base of the management API.
        admit: a query string that a client is let in with, for one connection.
        connection_id: finds the connection that was opened with a query string of `admit`.
        session: signs calls of the management API.
        region: likewise.
        on_close: ends what `admit` and `connection_id` work with.
        has_tls: whether it is reached over TLS, which the stand-in is not.
    """

    url: str
    callback_url: str
    admit: Callable[[], str]
    connection_id: Callable[[str], str]
    session: Session
    region: str
    on_close: Callable[[], None] = lambda: None
    _clients: dict[str, Any] = field(default_factory=dict)

    @property
    def has_tls(self) -> bool:
        return self.url.startswith("wss:")

    @property
    def path(self) -> str:
        """The path of the stage, such as `/dev`."""
        return urlsplit(self.url).path.rstrip("/")

    @contextmanager
    def client(self, **options: Any) -> Iterator[tuple[ClientConnection, str]]:
        """An open connection, and its id."""
        query = self.admit()
        with open_websocket(
            f"{self.url}?{query}" if query else self.url,
            **{"compression": None, "open_timeout": SECONDS, "close_timeout": 3, "max_size": None, **options},
        ) as websocket:
            yield websocket, self.connection_id(query)

    @contextmanager
    def socket(self, alpn: list[str] | None = None) -> Iterator[socket.socket]:
        """A bare connection to it."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if self.has_tls else 80)
        assert parts.hostname is not None
        with socket.create_connection((parts.hostname, port), timeout=SECONDS) as plain:
            if not self.has_tls:
                yield plain
                return
            context = ssl.create_default_context()
            context.set_alpn_protocols(alpn or ["http/1.1"])
            with context.wrap_socket(plain, server_hostname=parts.hostname) as secure:
                yield secure

    def handshake(
        self, path: str | None = None, *, start: str = "", version: str = "13", headers: str = ""
    ) -> http.client.HTTPResponse:
        """Ask for a WebSocket by hand.

        Args:
            path: with its query; that of the stage, let in, where it is left out.
            start: replaces the first line.
            version: of the WebSocket protocol.
            headers: more of them, each with its line end.
        """
        path = f"{self.path or '/'}?{self.admit()}" if path is None else path
        request = (
            f"{start or f'GET {path} HTTP/1.1'}\r\nHost: {urlsplit(self.url).netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n"
            f"{headers}\r\n"
        )
        with self.socket() as sock:
            sock.sendall(request.encode())
            response = http.client.HTTPResponse(sock)
            response.begin()
            return response

    def call(self, operation: str, *, url: str | None = None, **arguments: Any) -> Any:
        """Call the management API: the answer, or `[status, name of the error]`."""
        try:
            return getattr(self._management(url or self.callback_url), operation)(**arguments)
        except ClientError as error:
            return [error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]]

    def _management(self, url: str) -> Any:
        if url not in self._clients:
            config = Config(
                retries={"total_max_attempts": 1},
                max_pool_connections=32,
                proxies=None if self.has_tls else {},
            )
            self._clients[url] = self.session.create_client(
                "apigatewaymanagementapi", region_name=self.region, endpoint_url=url, config=config
            )
        return self._clients[url]

    def close(self) -> None:
        """End the connections to the management API."""
        for client in self._clients.values():
            client.close()
        self.on_close()

    def status(self, operation: str, *, url: str | None = None, **arguments: Any) -> Any:
        """The same, but of an answer its status only."""
        answer = self.call(operation, url=url, **arguments)
        return answer if isinstance(answer, list) else answer["ResponseMetadata"]["HTTPStatusCode"]


def outcome(websocket: ClientConnection) -> Any:
    """Whether a connection is still open after what was sent: `open`, or the close code that came."""
    try:
        pong = websocket.ping()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            try:
                websocket.recv(timeout=0.1)
            except TimeoutError:
                if pong.is_set():
                    return "open"
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
    return "neither a pong nor a close"


def closing(websocket: ClientConnection) -> list[Any]:
    """The close code and the reason that come from the other side."""
    try:
        while True:
            websocket.recv(timeout=SECONDS)
    except TimeoutError:
        return ["still open", ""]
    except ConnectionClosed as closed:
        return [closed.rcvd.code, closed.rcvd.reason] if closed.rcvd else [1006, ""]
