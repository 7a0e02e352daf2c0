"""The bytes of HTTP/1.1 to the management API: signed requests out, answers in. Pure but for the clock."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

from roomcast.errors import SettingsError

SIGNED_FOR = 60.0
"""Seconds after which requests are dated anew; API Gateway takes signatures for 5 minutes."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_PLAIN_ID = re.compile(r"[A-Za-z0-9_\-]*=*").fullmatch
_MAX_HEAD = 64 * 1024


class FrozenCredentials(Protocol):
    """One consistent set of keys, as botocore hands them out."""

    @property
    def access_key(self) -> str | None: ...
    @property
    def secret_key(self) -> str | None: ...
    @property
    def token(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where the management API is: its base URL in the http(s) form, and the parts of it."""

    url: str
    tls: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, endpoint: str) -> "Target":
        """Read the base URL in its `wss://`, `https://`, `ws://` or `http://` form.

        Raises:
            SettingsError: it is no such URL.
        """
        key = "WEBSOCKET_API_ENDPOINT"
        try:
            parts = urlsplit(endpoint.strip())
            port = parts.port
        except ValueError as error:
            raise SettingsError(key, f"{endpoint!r} is no URL: {error}") from None
        scheme = {"wss": "https", "https": "https", "ws": "http", "http": "http"}.get(parts.scheme)
        if scheme is None or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise SettingsError(key, f"{endpoint!r} must look like wss://HOST/STAGE (or https, ws, http)")
        path = quote(parts.path.rstrip("/"), safe="/~%")
        netloc = parts.netloc
        port = port or (443 if scheme == "https" else 80)
        return cls(f"{scheme}://{netloc}{path}", scheme == "https", parts.hostname, port, path)

    @property
    def host_header(self) -> str:
        """The value of `Host`: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Signer:
    """Writes the signed requests of one send (Signature Version 4).

    What all requests share is hashed once: of the canonical request the part before the connection id, of
    the signature the two halves of HMAC keyed with the day's key. 2 to 3 µs a request remain.
    """

    def __init__(
        self,
        method: str,
        target: Target,
        region: str,
        body: bytes,
        credentials: FrozenCredentials,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._method = method
        self._target = target
        self._region = region
        self._body = body
        self._body_hash = hashlib.sha256(body).hexdigest()
        self._clock = clock
        self.use(credentials)

    def use(self, credentials: FrozenCredentials) -> None:
        """Sign the requests that follow with these keys, dated now."""
        self.credentials = credentials
        now = self._clock()
        self._until = now + SIGNED_FOR
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        scope = f"{date[:8]}/{self._region}/execute-api/aws4_request"
        headers = {"host": self._target.host_header, "x-amz-date": date}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())

        # The path is encoded twice in the canonical request: `=` of an id is %3D on the wire, %253D here.
        path = quote(f"{self._target.path}/@connections/", safe="/~")
        self._request_hash = hashlib.sha256(f"{self._method}\n{path}".encode())
        self._request_rest = f"\n\n{lines}\n{names}\n{self._body_hash}"

        key = f"AWS4{credentials.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        padded = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._inner.update(f"{_ALGORITHM}\n{date}\n{scope}\n".encode())
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

        self._head = f"{self._method} {self._target.path}/@connections/"
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._middle = (
            f" HTTP/1.1\r\n{fields}content-length: {len(self._body)}\r\nauthorization: {_ALGORITHM} "
            f"Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature="
        )
        self._end = b"\r\n\r\n" + self._body

    def request(self, connection_id: str) -> bytes:
        """The whole request for one connection, encoded."""
        if self._clock() > self._until:
            self.use(self.credentials)
        if _PLAIN_ID(connection_id):
            once = connection_id.replace("=", "%3D")
        else:
            once = quote(connection_id, safe="-._~", errors="surrogatepass")
        canonical = self._request_hash.copy()
        canonical.update((once.replace("%", "%25") + self._request_rest).encode())
        inner = self._inner.copy()
        inner.update(canonical.hexdigest().encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        return (self._head + once + self._middle + outer.hexdigest()).encode() + self._end


@dataclass(frozen=True, slots=True)
class Answer:
    """What the management API said.

    Attributes:
        status: HTTP's.
        error: the value of `x-amzn-ErrorType`, or empty.
        keep_alive: whether the connection can take another request.
    """

    status: int
    error: str
    keep_alive: bool


class BadAnswerError(Exception):
    """What came is not HTTP/1.x."""


def parse_answer(data: bytes, *, ended: bool) -> Answer | None:
    """Read one answer; None while it is not whole.

    Args:
        data: all bytes since the request.
        ended: the server has closed, which ends an answer without a length.

    Raises:
        BadAnswerError: not HTTP/1.x, or more than the answer.
    """
    while True:
        cut = data.find(b"\r\n\r\n")
        if cut < 0:
            if not b"HTTP/1.".startswith(data[:7]) or len(data) > _MAX_HEAD:
                raise BadAnswerError("no HTTP/1.x answer")
            return None
        digits = data[9:12]
        if data[:7] != b"HTTP/1." or not digits.isdigit():
            raise BadAnswerError("no HTTP/1.x answer")
        status = int(digits)
        if status >= 200:
            break
        data = data[cut + 4 :]  # 100 Continue and its like come before the answer
    head = data[:cut].lower()
    length = _header(data, head, b"content-length")
    if b"\r\ntransfer-encoding:" in head:
        end = _end_of_chunks(data, cut + 4)
        if end is None:
            return None
    elif status in (204, 304):
        end = cut + 4
    elif length is not None:
        if not length.isdigit():
            raise BadAnswerError("a content-length that is no number")
        end = cut + 4 + int(length)
    else:
        if not ended:
            return None
        end = len(data)
    if len(data) < end:
        return None
    if len(data) > end:
        raise BadAnswerError("more bytes than the answer has")
    option = (_header(data, head, b"connection") or b"").lower()
    keep_alive = not ended and option != b"close" and (data[7:8] != b"0" or option == b"keep-alive")
    error = b""
    if status >= 300:
        error = (_header(data, head, b"x-amzn-errortype") or b"").split(b":")[0]
    return Answer(status, error.decode("latin-1"), keep_alive)


def _header(data: bytes, lowered: bytes, name: bytes) -> bytes | None:
    """A field's value as it stands in `data`; `lowered` is its head in lower case."""
    at = lowered.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    at += len(name) + 3
    stop = lowered.find(b"\r\n", at)
    return data[at : stop if stop >= 0 else len(lowered)].strip()


def _end_of_chunks(data: bytes, at: int) -> int | None:
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        try:
            size = int(data[at:line].split(b";")[0], 16)
        except ValueError:
            raise BadAnswerError("a chunk size that is no number") from None
        if size < 0:
            raise BadAnswerError("a chunk size below zero")
        if size == 0:
            break
        at = line + 2 + size + 2
    # Trailers, if any, end with an empty line as well.
    if data[line : line + 4] == b"\r\n\r\n":
        return line + 4
    end = data.find(b"\r\n\r\n", line)
    return None if end < 0 else end + 4
