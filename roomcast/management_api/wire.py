"""One connection to the management API, whichever HTTP it speaks: what the pool does with it."""

import asyncio
import socket
import time
from abc import ABC, abstractmethod
from typing import Protocol

from roomcast.management_api.send import Post
from roomcast.management_api.turns import Turns

MAX_IDLE = 20.0
"""Seconds; less than any server's own limit, and a function that was frozen finds connections dead."""


class OnLoss(Protocol):
    """Takes the end of a connection; `answering`: whether its request had arrived, or may have."""

    def __call__(self, wire: "Wire", reason: str, *, answering: bool = False) -> None: ...


class Wire(ABC):
    """One keep-alive TCP connection.

    Args:
        loop: watches the socket.
        sock: connected, past its TLS handshake, non-blocking.
        on_loss: called when the connection broke, or brought what is not a response.
        stale: seconds of idleness after which the server may have closed it unseen.
    """

    __slots__ = ("_idle_since", "_idle_since_wall", "_loop", "_on_loss", "_out", "_stale", "sock")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, *, on_loss: OnLoss, stale: float
    ) -> None:
        self._loop = loop
        self._on_loss = on_loss
        self._stale = stale
        self._out: memoryview | None = None
        self.sock = sock
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

    @property
    @abstractmethod
    def width(self) -> int:
        """How many requests it takes at once."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether it takes another request now."""

    @abstractmethod
    def posts(self, before: float = float("inf")) -> list[Post]:
        """Those whose requests are out; only those that went out before a moment, of the loop's clock."""

    @abstractmethod
    def is_usable(self, now: float) -> bool:
        """Whether a connection with room may still be posted to."""

    @abstractmethod
    def fill(self, turns: Turns, now: float, *, following: bool = False) -> bool:
        """Take posts while there is room; return False if there are no more that may go out now.

        Args:
            turns: where the posts are.
            now: seconds of the loop's clock.
            following: whether an answer has just come, so that it was not idle.
        """

    @abstractmethod
    def give_up(self, post: Post) -> bool:
        """Let go of one post, and take no others; return whether the server may have its request."""

    @abstractmethod
    def lose(self, *, answering: bool) -> list[tuple[Post, bool]]:
        """Let go of all posts as the connection has ended: each, and whether the server may have its request.

        Args:
            answering: as in `OnLoss`.
        """

    def close(self) -> None:
        """Close at once. TLS takes no leave: the answers were all read, so nothing can be cut off."""
        if self.sock.fileno() < 0:
            return
        self._loop.remove_reader(self.sock)
        if self._out is not None:
            self._loop.remove_writer(self.sock)
            self._out = None
        self.sock.close()

    @abstractmethod
    def _readable(self) -> None:
        """Read what has come."""
