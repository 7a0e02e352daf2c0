"""One TCP connection to the management API: a request written, its response read."""

import asyncio
import socket
import ssl
import time
from typing import Protocol

from roomcast.management_api.http1 import BadResponseError, Response, parse_response
from roomcast.management_api.send import Post

MAX_IDLE = 20.0
"""Seconds; less than any server's own limit, and a function that was frozen finds connections dead."""
STALE = 0.5
"""Seconds; idle for longer than this, a connection may have been closed by the server unseen."""


class OnResponse(Protocol):
    """Takes a whole response; `reusable`: whether the connection can take another request."""

    def __call__(self, wire: "Wire", post: Post, response: Response, *, reusable: bool) -> None: ...


class OnLoss(Protocol):
    """Takes the end of a connection; `answering`: whether its request had arrived, or may have."""

    def __call__(self, wire: "Wire", reason: str, *, answering: bool = False) -> None: ...


class Wire:
    """One keep-alive TCP connection: at most one request at a time, none sent ahead.

    Args:
        loop: watches the socket.
        sock: connected, past its TLS handshake, non-blocking.
        on_response: called with each whole response.
        on_loss: called when the connection broke, or brought what is not a response.
        stale: seconds of idleness after which the server may have closed it unseen.
    """

    __slots__ = (
        "_data",
        "_idle_since",
        "_idle_since_wall",
        "_loop",
        "_on_loss",
        "_on_response",
        "_out",
        "_stale",
        "began",
        "post",
        "sock",
        "was_idle",
        "written",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        on_response: OnResponse,
        on_loss: OnLoss,
        stale: float = STALE,
    ) -> None:
        self._loop = loop
        self._on_response = on_response
        self._on_loss = on_loss
        self._stale = stale
        self.sock = sock
        self._data = b""
        self._out: memoryview | None = None
        self.post: Post | None = None
        self.began = 0.0
        self.written = False
        self.was_idle = False
        self.idle_since = loop.time()
        loop.add_reader(sock, self._readable)

    @property
    def idle_since(self) -> float:
        """When it became idle, in seconds of the loop's clock."""
        return self._idle_since

    @idle_since.setter
    def idle_since(self, now: float) -> None:
        self._idle_since, self._idle_since_wall = now, time.time()

    def _idle(self, now: float) -> float:
        """Seconds for which it has been idle. The loop's clock may stop in a frozen function, the wall clock
        does not."""
        return max(now - self._idle_since, time.time() - self._idle_since_wall)

    def is_usable(self, now: float) -> bool:
        """Whether an idle connection may still be posted to."""
        idle = self._idle(now)
        if not self._stale < idle < MAX_IDLE:
            return idle <= self._stale
        try:
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False  # it has ended, or has bytes that nobody asked for

    def start(self, post: Post, now: float, *, following: bool = False) -> None:
        """Send the request of `post`; `following`: right after an answer, so that it was not idle."""
        self.post = post
        self.was_idle = not following and self._idle(now) > self._stale
        self.began = now
        self.written = False
        request = post.send.signer.request(post.connection_id)
        try:
            count = self.sock.send(request)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            count = 0
        except OSError as error:
            self._on_loss(self, type(error).__name__)
            return
        self.written = count > 0
        if count < len(request):
            self._out = memoryview(request)[count:]
            self._loop.add_writer(self.sock, self._writable)

    def close(self) -> None:
        """Close at once. TLS takes no leave: the answers were all read, so nothing can be cut off."""
        self._loop.remove_reader(self.sock)
        if self._out is not None:
            self._loop.remove_writer(self.sock)
            self._out = None
        self.sock.close()

    def _writable(self) -> None:
        assert self._out is not None  # noqa: S101
        # TLS may have taken bytes of a record that it could not yet write.
        self.written = True
        try:
            count = self.sock.send(self._out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._on_loss(self, type(error).__name__)
            return
        self._out = self._out[count:]
        if not self._out:
            self._loop.remove_writer(self.sock)
            self._out = None

    def _readable(self) -> None:
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._on_loss(self, type(error).__name__, answering=bool(self._data))
            return
        post = self.post
        if post is None:  # the server closes an idle connection, or says what nobody asked for
            self._on_loss(self, "closed")
            return
        ended = not data
        if self._data:
            data = self._data + data
        try:
            response = parse_response(data, ended=ended) if data else None
        except BadResponseError as error:
            self._on_loss(self, f"bad answer: {error}", answering=True)
            return
        if response is not None:
            self._data = b""
            self._on_response(self, post, response, reusable=response.keep_alive and self._out is None)
        elif ended:
            self._on_loss(self, "closed without a whole answer", answering=bool(data))
        else:
            self._data = data
