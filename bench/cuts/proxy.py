"""A TCP proxy in front of a server that cuts single clients off, in the ways in which networks do."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Literal

Way = Literal["reset", "silent", "half-open"]
"""What happens to a client's connections when it is cut off.

reset: they are cut at once, and new ones too until the cut ends.
silent: nothing comes through any more; when the cut ends they are cut.
half-open: the server's end is cut, and the client is never told; new ones get through when the cut ends, as
    TCP sends again what was lost.
"""

_WHO = re.compile(rb"[?&]cut=(\d+)")


class _Link:
    """One proxied connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.deaf = False

    def abort(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """Listens on a free port of loopback. Clients say who they are with `cut=NUMBER` in the URL.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._links: dict[int, set[_Link]] = {}
        self._down: dict[int, Way] = {}
        self._mended: dict[int, asyncio.Event] = {}
        self._fragile: dict[int, list[float]] = {}
        self._left: set[_Link] = set()
        self.port = 0
        self.connects = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything."""
        self._server.close()
        for link in [link for links in self._links.values() for link in links] + list(self._left):
            link.abort()

    def cut(self, who: int, way: Way = "reset") -> None:
        """Cut a client off until `mend`."""
        self._down[who] = way
        self._mended[who] = asyncio.Event()
        for link in self._links.get(who, set()):
            if way == "reset":
                link.abort()
            else:
                link.deaf = True

    def mend(self, who: int, *, fragile: list[float] | None = None) -> None:
        """Let a client through again.

        Args:
            fragile: seconds after which its next connections are reset, one each.
        """
        way = self._down.pop(who, None)
        if way is not None:
            self._mended[who].set()
        self._fragile[who] = list(fragile or [])
        for link in list(self._links.get(who, set())):
            if way == "half-open":
                link.server.transport.abort()
                self._links[who].discard(link)
                self._left.add(link)
            elif way == "silent":
                link.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            found = _WHO.search(head)
            who = int(found[1]) if found else -1
            if self._down.get(who) == "reset":
                writer.transport.abort()
                return
            while self._down.get(who) == "half-open":
                await self._mended[who].wait()
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
            link = _Link(writer, to_writer)
            link.deaf = who in self._down
            self._links.setdefault(who, set()).add(link)
            if not link.deaf:
                to_writer.write(head)
            if fragile := self._fragile.get(who):
                asyncio.get_running_loop().call_later(fragile.pop(0), link.abort)
            try:
                await asyncio.gather(self._pump(link, reader, to_writer), self._pump(link, to_reader, writer))
            finally:
                self._links[who].discard(link)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not link.deaf:
                    writer.write(data)
                    await writer.drain()
        if not link.deaf:
            link.abort()
