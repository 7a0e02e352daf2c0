"""One HTTP/2 connection to the management API: many requests at once, sent and read in batches."""

import asyncio
import socket
import ssl
from typing import Protocol

from roomcast.management_api.http2 import Http2
from roomcast.management_api.http2_stream import Event
from roomcast.management_api.send import Post
from roomcast.management_api.turns import Turns
from roomcast.management_api.wire import MAX_IDLE, OnLoss, Wire

_BATCH = 64 * 1024  # bytes; more than this are not put together before they are sent
_READS = 64  # TLS records that are read before their answers are acted upon
_RECORD = 16384  # bytes; what TLS may have taken of what it could not yet send


class OnEvents(Protocol):
    """Takes what became of requests, maybe of none: there may be room again."""

    def __call__(self, wire: "Http2Wire", events: list[Event]) -> None: ...


class Http2Wire(Wire):
    """As many requests at once as the server allows.

    Args:
        loop: as the rest, see `Wire`.
        sock: likewise.
        on_events: called when requests have ended, or others may begin.
        on_loss: likewise.
        stale: likewise.
    """

    __slots__ = ("_broken", "_greeted", "_http2", "_on_events", "_quiet", "_reached", "_ready", "_sent")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        on_events: OnEvents,
        on_loss: OnLoss,
        stale: float,
    ) -> None:
        super().__init__(loop, sock, on_loss=on_loss, stale=stale)
        self._on_events = on_events
        self._http2 = Http2()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._greeted = False
        self._broken = ""
        self._sent = self._reached = 0  # bytes that are sent, and those that may be
        self._quiet = False  # nothing has come since the first request after an idle time

    async def greet(self) -> None:
        """Say hello; returns when the server's settings have come. Only then it calls anybody.

        Raises:
            OSError: it has closed, or wants something else.
        """
        self._flush()
        await self._ready
        if self._http2.leaving:
            raise OSError(self._broken or "the server goes away")
        self._greeted = True

    @property
    def width(self) -> int:
        """How many requests the server takes at once."""
        return max(self._http2.width, 1)

    @property
    def has_room(self) -> bool:
        """Whether another request may go out, and would go out now."""
        return self._out is None and self._http2.room > 0

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no further request."""
        return self._http2.leaving

    @property
    def needs_http1(self) -> bool:
        """Whether the server asks for HTTP/1.1."""
        return self._http2.needs_http1

    def posts(self, before: float = float("inf")) -> list[Post]:
        """Those whose requests are out since before a moment."""
        found = []
        for stream in self._http2.streams.values():  # the oldest first
            if stream.began >= before:
                break
            found.append(stream.post)
        return found

    def is_usable(self, now: float) -> bool:
        """Whether a connection may still be posted to, now or when it has room again."""
        if self._http2.streams:
            return True
        idle = self._idle(now)
        if self._stale < idle < MAX_IDLE:
            self._readable()  # the server may have said good-bye
        return idle < MAX_IDLE and not self._http2.leaving

    def fill(self, turns: Turns, now: float, *, following: bool = False) -> bool:
        """Take posts while there is room, and send their requests together."""
        http2 = self._http2
        if not http2.streams:
            self._quiet = not following and self._idle(now) > self._stale
        more = True
        for _ in range(http2.room if self._out is None else 0):
            post = turns.next(now)
            if post is None:
                more = False
                break
            http2.start(post, now)
            if http2.queued - self._sent > _BATCH:
                self._flush()
                if self._out is not None or http2.leaving:
                    break
        self._flush()
        return more

    def _flush(self) -> None:
        """Send what is queued, as far as the socket takes it; what remains goes out later."""
        if self._out is not None or not self._http2.queue:
            return
        data = b"".join(self._http2.queue)
        self._http2.queue.clear()
        self._send(memoryview(data))

    def give_up(self, post: Post) -> bool:
        """Let go of one post, and take no others. Its request is out, or may go out with those before it."""
        number = next(number for number, stream in self._http2.streams.items() if stream.post is post)
        self._http2.forget(number)
        return True

    def lose(self, *, answering: bool) -> list[tuple[Post, bool]]:
        """Let go of all posts: the server has nothing of those that were not sent, nor of any where it closed
        an idle connection and nothing has come since."""
        streams = list(self._http2.streams.values())
        self._http2.streams.clear()
        arrived = answering or not self._quiet
        return [(stream.post, arrived and stream.at < self._reached) for stream in streams]

    def _send(self, data: memoryview) -> None:
        try:
            while data:
                count = self.sock.send(data)
                self._sent += count
                self._reached = self._sent
                data = data[count:]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._reached = self._sent + _RECORD
            if self._out is None:
                self._loop.add_writer(self.sock, self._writable)
            self._out = data
            return
        except OSError as error:
            self._break(type(error).__name__)
            return
        if self._out is not None:
            self._loop.remove_writer(self.sock)
            self._out = None

    def _writable(self) -> None:
        assert self._out is not None  # noqa: S101
        self._send(self._out)
        if self._out is None and self.sock.fileno() >= 0:
            self._on_events(self, [])

    def _readable(self) -> None:
        parts: list[bytes] = []
        ended = ""
        try:
            while len(parts) < _READS:
                part = self.sock.recv(_RECORD)
                if not part:
                    ended = "closed without a whole answer" if self._http2.streams else "closed"
                    break
                parts.append(part)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            ended = type(error).__name__
        if not parts and not ended:
            return
        events: list[Event] = []
        if parts:
            self._quiet = False
            events = self._http2.receive(b"".join(parts))
            if events and not self._http2.streams:
                self.idle_since = self._loop.time()
        broken = self._http2.error or ended
        if broken:
            self._http2.leave()
        if self._greeted:
            self._on_events(self, events)
        else:
            self._flush()
            if self._http2.ready and not self._ready.done():
                self._ready.set_result(None)
        if broken:
            self._break(broken)

    def _break(self, reason: str) -> None:
        if self.sock.fileno() < 0:
            return
        self._http2.leave()
        if self._greeted:
            self._on_loss(self, reason)
            return
        self._broken = reason
        self._loop.remove_reader(self.sock)
        if not self._ready.done():
            self._ready.set_result(None)
