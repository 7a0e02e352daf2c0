"""A management API (`@connections`) with scripted faults, on a real socket.

    with FakeManagementApi() as api:
        api.script("gone=", GONE)                    # every request to that connection
        api.script("busy=", THROTTLED, OK)           # one after the other; the last one stays
        api.always = FAILING                         # every connection without a script
        gateway = Gateway(api.endpoint, ...)
        ...
        assert api.delivered["busy="] == [b"hello"]

It runs on a thread of its own, so that both plain and asyncio code can talk to it. To extend it, give
`Reply` one more field and act on it in `_Conversation._reply`.
"""

import asyncio
import json
import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.http2 import Http2Conversation


@dataclass(frozen=True)
class Reply:
    """How one request is answered.

    Attributes:
        status: of the answer.
        error: the value of `x-amzn-ErrorType`.
        delivers: whether the message reaches the client; by default with every 2xx.
        delay: seconds before the answer.
        how: `whole` answers; `hang` never answers; `reset` breaks the connection (RST) once the request
            is there; `half` breaks it within the answer; `garbage` answers something that is not HTTP. Over
            HTTP/2 only: `reset_stream` and `half_stream` break this request and no other, and `refused` says
            that it was not processed.
        body: `sized` with a Content-Length, `chunked`, `until_close` without either, `none` as 204 does.
        then: `keep` the connection, `close` it and say so, or `vanish`: close it unannounced.
        pieces: send the answer in this many writes.
    """

    status: int = 200
    error: str = ""
    delivers: bool | None = None
    delay: float = 0.0
    how: Literal["whole", "hang", "reset", "half", "garbage", "reset_stream", "half_stream", "refused"] = (
        "whole"
    )
    body: Literal["sized", "chunked", "until_close", "none"] = "sized"
    then: Literal["keep", "close", "vanish"] = "keep"
    pieces: int = 1


OK = Reply()
GONE = Reply(410, "GoneException")
FORBIDDEN = Reply(403, "ForbiddenException")
TOO_LARGE = Reply(413, "PayloadTooLargeException")
THROTTLED = Reply(429, "LimitExceededException")
FAILING = Reply(500, "InternalServerException")
UNAVAILABLE = Reply(503)
DELIVERED_THEN_500 = Reply(500, delivers=True)
HANG = Reply(how="hang")
RESET = Reply(how="reset")
RESET_WITHIN_ANSWER = Reply(how="half", delivers=True)
GARBAGE = Reply(how="garbage")
RESET_STREAM = Reply(how="reset_stream")
RESET_STREAM_WITHIN_ANSWER = Reply(how="half_stream", delivers=True)
REFUSED = Reply(how="refused")

_NAMES = {200: "OK", 204: "No Content"}


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str  # as on the wire
    connection_id: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float  # monotonic seconds


@dataclass
class FakeManagementApi:
    """The server; use it as a context manager.

    Attributes:
        certificate: serves TLS with it if given.
        always: answers every connection that has no script.
        requests: everything that came, in order.
        delivered: per connection the bodies that its client would have got.
        deleted: the connections that were deleted.
        opened: how many TCP connections were accepted in all.
        stage: the path before `/@connections`.
        access_key: if set, requests signed with another one get 403 `ExpiredTokenException`.
        limit: if set, the account's quota: requests a second, with a bucket of a tenth. What is over it
            gets a 429, whoever it is for.
        http2: whether it chooses HTTP/2 where a client offers it; needs a certificate.
        streams: over HTTP/2, how many requests it takes at once on a connection.
        window: over HTTP/2, how many bytes of a body it takes before it says that it takes more.
        table: over HTTP/2, bytes of the table of header fields that it keeps.
    """

    certificate: "Certificate | None" = None
    always: Reply = OK
    stage: str = "/local"
    access_key: str | None = None
    limit: float | None = None
    http2: bool = False
    streams: int = 100
    window: int = 65535
    table: int = 4096
    requests: list[Request] = field(default_factory=list)
    delivered: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    deleted: list[str] = field(default_factory=list)
    opened: int = 0
    port: int = 0
    _tokens: float = 0.0
    _filled_at: float = 0.0
    _scripts: dict[str, deque[Reply]] = field(default_factory=dict)
    _conversations: "set[_Conversation | Http2Conversation]" = field(default_factory=set)

    def __enter__(self) -> Self:
        # Bound here, so that a port in use is an error here; served on the thread, whatever runs here.
        sock = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = sock.getsockname()[1]
        self._loop = asyncio.SelectorEventLoop()
        self._listens = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(sock,), name="fake-management-api", daemon=True
        )
        self._thread.start()
        self._listens.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """Its base URL in the form that the setting has."""
        host = "localhost" if self.certificate else "127.0.0.1"
        return f"{'wss' if self.certificate else 'ws'}://{host}:{self.port}{self.stage}"

    def script(self, connection_id: str, *replies: Reply) -> None:
        """Answer the requests to one connection with these in turn; the last one stays."""
        self._scripts[connection_id] = deque(replies)

    def tries(self, connection_id: str) -> int:
        """How many requests came for one connection."""
        return sum(request.connection_id == connection_id for request in self.requests)

    def hang_up(self) -> None:
        """Close every open connection now, as a server does with idle ones; returns when it is done."""
        self._of_each(lambda conversation: conversation.hang_up())

    def over_http2(self, act: Callable[[Http2Conversation], None]) -> None:
        """Do something with every open HTTP/2 connection; returns when it is done."""

        def act_on(conversation: _Conversation | Http2Conversation) -> None:
            if isinstance(conversation, Http2Conversation):
                act(conversation)

        self._of_each(act_on)

    def _of_each(self, act: "Callable[[_Conversation | Http2Conversation], object]") -> None:
        done = threading.Event()

        def act_on_all() -> None:
            for conversation in list(self._conversations):
                act(conversation)
            done.set()

        self._loop.call_soon_threadsafe(act_on_all)
        done.wait()

    def reply_to(self, request: Request) -> Reply:
        """Take note of a request and choose its reply."""
        self.requests.append(request)
        if self.access_key and f"Credential={self.access_key}/" not in request.headers["authorization"]:
            return Reply(403, "ExpiredTokenException")
        if self.limit is not None and not self._take(request.at):
            return THROTTLED
        script = self._scripts.get(request.connection_id)
        reply = (script.popleft() if len(script) > 1 else script[0]) if script else self.always
        if request.method == "DELETE" and reply == OK:
            reply = Reply(204, body="none")
        if reply.delivers or (reply.delivers is None and reply.how == "whole" and reply.status < 300):
            if request.method == "DELETE":
                self.deleted.append(request.connection_id)
            elif request.method == "POST":
                self.delivered[request.connection_id].append(request.body)
        return reply

    def _take(self, now: float) -> bool:
        assert self.limit is not None
        self._tokens = min(self.limit / 10, self._tokens + (now - self._filled_at) * self.limit)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _serve(self, sock: socket.socket) -> None:
        context = self.certificate.server_context() if self.certificate else None
        if context and self.http2:
            context.set_alpn_protocols(["h2"])
        listening = self._loop.create_server(lambda: _Conversation(self), sock=sock, ssl=context)
        server = self._loop.run_until_complete(listening)
        self._listens.set()
        self._loop.run_forever()
        server.close()
        for conversation in list(self._conversations):
            conversation.hang_up()
        self._loop.run_until_complete(asyncio.sleep(0.01))  # the transports close in callbacks
        self._loop.close()


class _Conversation(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, api: FakeManagementApi) -> None:
        self._api = api
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._api.opened += 1
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            over_http2 = Http2Conversation(self._api)
            transport.set_protocol(over_http2)
            over_http2.connection_made(transport)
            return
        self._transport = transport
        self._api._conversations.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._api._conversations.discard(self)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        assert len(rest) == length, "a request was sent before the answer to the one before"
        self._data = b""
        method, path, _ = first.split(" ")
        base, found_path, name = path.rpartition("/@connections/")
        assert found_path, f"no management API path: {path}"
        loop = asyncio.get_running_loop()
        request = Request(method, path, unquote(name), headers, rest, loop.time())
        reply = FORBIDDEN if base != self._api.stage else self._api.reply_to(request)
        if reply.delay:
            loop.call_later(reply.delay, self._reply, reply, request)
        else:
            self._reply(reply, request)

    def _reply(self, reply: Reply, request: Request) -> None:
        transport = self._transport
        if transport is None or reply.how == "hang":
            return
        if reply.how == "reset":
            transport.abort()
            return
        if reply.how == "garbage":
            transport.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            return
        answer = _render(reply, request)
        if reply.how == "half":
            transport.write(answer[: len(answer) // 2])
            asyncio.get_running_loop().call_later(0.02, transport.abort)
            return
        if reply.pieces == 1:
            transport.write(answer)
            self._after(reply)
        else:
            size = -(-len(answer) // reply.pieces)
            self._dribble([answer[at : at + size] for at in range(0, len(answer), size)], reply)

    def _dribble(self, pieces: list[bytes], reply: Reply) -> None:
        if self._transport is None:
            return
        self._transport.write(pieces[0])
        if len(pieces) > 1:
            asyncio.get_running_loop().call_later(0.005, self._dribble, pieces[1:], reply)
        else:
            self._after(reply)

    def _after(self, reply: Reply) -> None:
        if self._transport is not None and (reply.then != "keep" or reply.body == "until_close"):
            self._transport.close()


def error_body(reply: Reply, request: Request) -> bytes:
    """The body of an answer that names an error; none of the others."""
    if not reply.error:
        return b""
    return json.dumps({"message": None, "connectionId": request.connection_id}).encode()


def _render(reply: Reply, request: Request) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {_NAMES.get(reply.status, 'Error')}", "x-amzn-RequestId: c6af9ac6"]
    body = error_body(reply, request)
    if reply.error:
        lines.append(f"x-amzn-ErrorType: {reply.error}")
    if reply.then == "close":
        lines.append("Connection: close")
    if reply.body == "sized":
        lines.append(f"Content-Length: {len(body)}")
    elif reply.body == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = body or b"{}"
        body = f"{len(body):x};name=value\r\n".encode() + body + b"\r\n0\r\nX-Trailer: 1\r\n\r\n"
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key in one PEM file."""

    path: Path

    @classmethod
    def write(cls, path: Path, host: str = "localhost") -> "Certificate":
        """Make a self-signed one for `host` and for 127.0.0.1 unless the host is another one."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return cls(path)

    def server_context(self) -> ssl.SSLContext:
        """For the server that shows it."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts nothing else."""
        return ssl.create_default_context(cafile=str(self.path))
