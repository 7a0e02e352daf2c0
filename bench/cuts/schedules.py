"""When clients are cut off, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.cuts.proxy import Way
from bench.cuts.run import Roomcast, Run, dice, while_sending

EVERY, FOR = 5.0, 2.0
"""Seconds: how often each client is cut, and how long."""
LONG = 130.0
"""Seconds of a long cut: more than the two minutes for which Socket.IO keeps a connection's state."""


@dataclass(frozen=True)
class Size:
    """How much: clients, messages a second, seconds."""

    clients: int
    rate: float
    seconds: float
    crowd: int

    @property
    def count(self) -> int:
        return int(self.rate * self.seconds)


async def each_in_turn(run: Run, way: Way, *, fragile: int = 0) -> None:
    """Cut each client for 2 s every 5 s, each at a moment of its own."""

    async def one(who: int) -> None:
        await asyncio.sleep(who / run.clients * EVERY)
        while True:
            run.proxy.cut(who, way)
            await asyncio.sleep(FOR)
            run.proxy.mend(who, fragile=[dice.uniform(0.02, 0.5) for _ in range(fragile)])
            await asyncio.sleep(EVERY - FOR)

    await asyncio.gather(*(one(who) for who in range(run.clients)))


async def resets(run: Run, size: Size) -> None:
    await while_sending(run, size.count, size.rate, lambda: each_in_turn(run, "reset"))


async def silence(run: Run, size: Size) -> None:
    await while_sending(run, size.count, size.rate, lambda: each_in_turn(run, "silent"))


async def half_open(run: Run, size: Size) -> None:
    await while_sending(run, size.count, size.rate, lambda: each_in_turn(run, "half-open"))


async def again_during_recovery(run: Run, size: Size) -> None:
    await while_sending(run, size.count, size.rate, lambda: each_in_turn(run, "reset", fragile=2))


async def before_the_first_message(run: Run, size: Size) -> None:
    for who in range(run.clients):
        run.proxy.cut(who)
    await asyncio.sleep(0.5)
    await run.send(int(size.rate * FOR), size.rate)
    for who in range(run.clients):
        run.proxy.mend(who)


async def all_at_once(run: Run, size: Size) -> None:
    await _all_at_once(run, size.count, size.rate, EVERY)


async def crowd(run: Run, size: Size) -> None:
    """The same of a crowd: a tenth of the messages, and time to come back between two cuts."""
    await _all_at_once(run, size.count // 10, size.rate / 10, 4 * EVERY)


async def _all_at_once(run: Run, count: int, rate: float, every: float) -> None:
    """By the stand-in: it cuts every connection and refuses new ones."""
    assert isinstance(run.server, Roomcast)
    stage = run.server.stage

    async def cuts() -> None:
        try:
            while True:
                await stage.ask({"drop": True, "refuse": 503})
                await asyncio.sleep(FOR)
                await stage.ask({"refuse": None})
                await asyncio.sleep(every - FOR)
        finally:
            stage.tell({"refuse": None})
            await stage.hear()

    await while_sending(run, count, rate, cuts)


async def restart(run: Run, size: Size) -> None:
    """The gateway goes without a word to the functions, and is back after 3 s."""
    assert isinstance(run.server, Roomcast)
    stage = run.server.stage

    async def cuts() -> None:
        await asyncio.sleep(size.seconds / 4)
        await stage.ask({"withhold": True, "drop": True, "refuse": 503})
        await asyncio.sleep(3)
        await stage.ask({"withhold": False, "refuse": None})

    cutting = asyncio.ensure_future(cuts())
    await run.send(size.count, size.rate)
    await cutting


async def long_cut(run: Run, size: Size) -> None:
    """130 s (less with --quick), with as many messages as the room keeps."""
    await _away(run, size, rate=size.rate / 4)
    await run.send(5, size.rate)


async def longer_than_retention(run: Run, size: Size) -> None:
    """130 s (less with --quick), with more messages than the room keeps."""
    await _away(run, size, rate=max(size.rate, 2_500 / _long(size)))
    await run.until(lambda now: bool(now["gaps"] >= run.clients), 60)
    run.first, run.sent = run.first + run.sent, 0
    await run.send(5, size.rate)


def _long(size: Size) -> float:
    return LONG * size.seconds / 60


async def _away(run: Run, size: Size, *, rate: float) -> None:
    """Cut everybody while messages are sent at a rate."""
    for who in range(run.clients):
        run.proxy.cut(who)
    await asyncio.sleep(1)
    await run.send(int(_long(size) * rate), rate)
    for who in range(run.clients):
        run.proxy.mend(who)


async def burst(run: Run, size: Size) -> None:
    """20 sends at once to a crowd that nobody cuts."""
    await run.send(20, 0)


@dataclass(frozen=True)
class Schedule:
    """A schedule.

    Attributes:
        cuts: carries it out.
        crowd: whether it is for the crowd.
        settings: options of Roomcast's client.
        gap: whether each client is to be told one.
        peers: whether Socket.IO runs it too.
    """

    cuts: Callable[[Run, Size], Awaitable[None]]
    crowd: bool = False
    settings: dict[str, object] | None = None
    gap: bool = False
    peers: bool = False


SCHEDULES: dict[str, Schedule] = {
    "resets": Schedule(resets, peers=True),
    "silence": Schedule(silence, peers=True),
    "all at once": Schedule(all_at_once),
    "before the first message": Schedule(before_the_first_message, peers=True),
    "again during recovery": Schedule(again_during_recovery, peers=True),
    "half-open": Schedule(half_open, settings={"keepalive": 1_000, "replyTimeout": 2_000}),
    "restart": Schedule(restart),
    "long cut": Schedule(long_cut, peers=True),
    "longer than retention": Schedule(longer_than_retention, gap=True),
    "crowd": Schedule(crowd, crowd=True),
    "burst": Schedule(burst, crowd=True),
}
