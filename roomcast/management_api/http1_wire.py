"""One HTTP/1.1 connection to the management API: a request written, its response read."""

import asyncio
import socket
import ssl
from typing import Protocol

from roomcast.management_api.http1 import BadResponseError, Response, parse_response
from roomcast.management_api.send import Post
from roomcast.management_api.turns import Turns
from roomcast.management_api.wire import MAX_IDLE, OnLoss, Wire


class OnResponse(Protocol):
    """Takes a whole response; `reusable`: whether the connection can take another request."""

    def __call__(self, wire: "Http1Wire", post: Post, response: Response, *, reusable: bool) -> None: ...


class Http1Wire(Wire):
    """At most one request at a time, none sent ahead.

    Args:
        loop: as the rest, see `Wire`.
        sock: likewise.
        on_response: called with each whole response.
        on_loss: likewise.
        stale: likewise.
    """

    __slots__ = ("_data", "_on_response", "began", "post", "was_idle", "written")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        on_response: OnResponse,
        on_loss: OnLoss,
        stale: float,
    ) -> None:
        super().__init__(loop, sock, on_loss=on_loss, stale=stale)
        self._on_response = on_response
        self._data = b""
        self.post: Post | None = None
        self.began = 0.0
        self.written = False
        self.was_idle = False

    @property
    def width(self) -> int:
        """As HTTP/1.1 has it."""
        return 1

    @property
    def has_room(self) -> bool:
        """Whether no request is out."""
        return self.post is None

    def posts(self, before: float = float("inf")) -> list[Post]:
        """The post, if one is out."""
        return [self.post] if self.post is not None and self.began < before else []

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

    def fill(self, turns: Turns, now: float, *, following: bool = False) -> bool:
        """Send the request of the next post."""
        post = turns.next(now)
        if post is None:
            return False
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
            return True
        self.written = count > 0
        if count < len(request):
            self._out = memoryview(request)[count:]
            self._loop.add_writer(self.sock, self._writable)
        return True

    def give_up(self, post: Post) -> bool:
        """Let go of the post; the connection has to be closed now."""
        assert post is self.post  # noqa: S101
        self.post = None
        return self.written

    def lose(self, *, answering: bool) -> list[tuple[Post, bool]]:
        """Let go of the post: the server has nothing of it where no byte was written, nor where it closed an
        idle connection without a byte of an answer."""
        post, self.post = self.post, None
        if post is None:
            return []
        return [(post, self.written and (answering or not self.was_idle))]

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
