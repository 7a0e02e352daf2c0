"""HTTP/1.1 to one endpoint: kept connections, each with one request at a time, all calls blocking.

Those that wait on an event loop instead (`waiting.py`) have connections of that loop: `loop_http.py`.
"""

import os
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from roomcast.aws_client import waiting
from roomcast.aws_client.failures import unanswered

if TYPE_CHECKING:
    import ssl

MAX_IDLE = 30.0
"""Seconds; DynamoDB closes an idle connection after a minute or more."""
_MAX_HEAD = 64 * 1024
CLOSED = "closed without a whole answer"


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: HTTP's.
        headers: their names in lower case.
        body: the bytes.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Connections:
    """The kept connections to one endpoint.

    Serves any number of threads; opens as many connections as calls run at the same time. After `fork` it
    starts anew, and it outlives being frozen: a connection that died meanwhile is seen or replaced.

    Args:
        url: the endpoint; only its scheme, host and port count.
        connect_timeout: seconds to connect, for each address of the host, and for TLS.
        read_timeout: seconds for the whole answer.
        ssl_context: in place of one that trusts what the system and `AWS_CA_BUNDLE` trust.

    Attributes:
        host: of the endpoint, as the next two.
        port: likewise.
        tls: whether it speaks TLS.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        read_timeout: float,
        ssl_context: "ssl.SSLContext | None" = None,
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.tls = parts.scheme == "https"
        self.port = parts.port or (443 if self.tls else 80)
        self.connect_timeout, self.read_timeout = connect_timeout, read_timeout
        self._ssl_context = ssl_context
        self._lock = threading.Lock()
        self._idle: deque[tuple[float, float, socket.socket]] = deque()  # since when, by two clocks
        self._process = os.getpid()

    def exchange(self, request: bytes) -> Answer:
        """Send one request and read its answer.

        A kept connection that the server had closed costs no try: the request goes out on a new one. So it
        must bear to be done twice, like everything that is passed to `roomcast.aws.call`.

        Raises:
            AwsError: no whole answer came.
        """
        loop = waiting.here()
        if loop is not None:
            return loop.exchange(self, request)
        kept = self._take()
        answer = self._ask(kept, request, is_kept=True) if kept is not None else None
        return answer or self._ask(self._open(), request, is_kept=False)  # type: ignore[return-value]

    def close(self) -> None:
        """Close the connections that are idle; a later call opens others."""
        while (kept := self._pop()) is not None:
            kept[2].close()

    def __del__(self) -> None:
        self.close()

    def _pop(self) -> tuple[float, float, socket.socket] | None:
        if self._process != os.getpid():  # the parent's connections are not ours to write to
            with self._lock:
                mine, self._idle, self._process = self._idle, deque(), os.getpid()
                for _, _, sock in mine:
                    sock.close()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _take(self) -> socket.socket | None:
        while (kept := self._pop()) is not None:
            monotonic, wall, sock = kept
            # The first clock may stop in a frozen function.
            if max(time.monotonic() - monotonic, time.time() - wall) < MAX_IDLE:
                return sock
            sock.close()
        return None

    def _open(self) -> socket.socket:
        # As bytes it needs no codec for international names, whose import takes 2 ms of a cold start.
        host: Any = self.host.encode() if self.host.isascii() else self.host
        try:
            sock = socket.create_connection((host, self.port), self.connect_timeout)
        except TimeoutError as error:
            raise unanswered("ConnectTimeoutError", self.url, str(error)) from error
        except OSError as error:
            raise unanswered("EndpointConnectionError", self.url, str(error)) from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = self.context().wrap_socket(sock, server_hostname=host)
            sock.settimeout(self.read_timeout)
        except OSError as error:  # a certificate that is not trusted, too
            sock.close()
            raise unanswered("SSLError", self.url, str(error)) from error
        return sock

    def context(self) -> "ssl.SSLContext":
        """What is trusted."""
        with self._lock:
            if self._ssl_context is None:
                import ssl  # a local stage has none

                self._ssl_context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
            return self._ssl_context

    def _ask(self, sock: socket.socket, request: bytes, *, is_kept: bool) -> Answer | None:
        """One exchange; None where a kept connection ends before the answer has begun."""
        data = b""
        try:
            sock.sendall(request)
            ends = time.monotonic() + self.read_timeout
            while (read := parse(data)) is None:
                more = sock.recv(65536)
                if not more:
                    raise ConnectionError(CLOSED)  # noqa: TRY301  one place says what an end means
                if time.monotonic() > ends:
                    raise TimeoutError("the answer takes too long")  # noqa: TRY301  likewise
                data = data + more if data else more
        except TimeoutError as error:
            sock.close()
            raise unanswered("ReadTimeoutError", self.url, str(error)) from error
        except (OSError, ValueError) as error:
            sock.close()
            if is_kept and not data:
                return None
            raise unanswered("ConnectionClosedError", self.url, str(error)) from error
        except BaseException:  # a deadline of the caller's, with half an answer behind it
            sock.close()
            raise
        answer, keep_alive = read
        if keep_alive:
            self._idle.append((time.monotonic(), time.time(), sock))
        else:
            sock.close()
        return answer


def parse(data: bytes) -> tuple[Answer, bool] | None:
    """Read one whole answer, and whether the connection takes another request; None while it is not whole.

    Raises:
        ValueError: it is not HTTP/1.1 with a length.
    """
    cut = data.find(b"\r\n\r\n")
    if cut < 0:
        if len(data) > _MAX_HEAD or not b"HTTP/1.".startswith(data[:7]):
            raise ValueError("not an HTTP/1.1 answer")
        return None
    lines = data[:cut].decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1."):
        raise ValueError("not an HTTP/1.1 answer")
    status = int(lines[0][9:12])
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = data[cut + 4 :]
    if headers.get("transfer-encoding", "").lower() == "chunked":
        whole = _unchunk(body)
        if whole is None:
            return None
        body = whole
    else:
        length = int(headers["content-length"]) if "content-length" in headers else None
        if length is None:
            raise ValueError("an answer without a length")
        if len(body) < length:
            return None
        if len(body) > length:
            raise ValueError("more bytes than the answer has")
    keep_alive = headers.get("connection", "").lower() != "close" and lines[0].startswith("HTTP/1.1")
    return Answer(status, headers, body), keep_alive


def _unchunk(data: bytes) -> bytes | None:
    """The chunks' bytes together; None while they are not whole.

    Raises:
        ValueError: a size is not one, or there are bytes behind the last.
    """
    parts: list[bytes] = []
    at = 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line].split(b";")[0], 16)
        if size < 0:
            raise ValueError("a chunk size below zero")
        if size == 0:
            end = data.find(b"\r\n\r\n", line)
            if end < 0:
                return None
            if end + 4 < len(data):
                raise ValueError("more bytes than the answer has")
            return b"".join(parts)
        at = line + 2 + size + 2
        if len(data) < at:
            return None
        parts.append(data[line + 2 : at - 2])
