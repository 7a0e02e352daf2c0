"""One run: a server behind the proxy, clients in processes of their own, a sender, and the account of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cuts.proxy import Proxy
from bench.local.peers import free_port, install, token
from tests.support.packages import ROOT

ROOM = "chat_room_jitter"
HERE = Path(__file__).parent
WORKERS = 2
SETTLE = 90.0
"""Seconds that clients have to come back after the last cut."""


class Process:
    """A process that is spoken to in lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, *command: str, log: Path, **environment: str) -> Process:
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=64 * 1024 * 1024,
            )
        return cls(process)

    def tell(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def hear(self, timeout: float = 300) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(timeout):
            while line := await self._process.stdout.readline():
                if line.startswith(b"{"):
                    return json.loads(line)
                if line.strip() == b"done":
                    return None
        raise RuntimeError("a process of the benchmark has ended; its log says why")

    async def ask(self, command: dict[str, Any]) -> Any:
        async with self._turn:
            self.tell(command)
            return await self.hear()

    async def stop(self) -> None:
        if self._process.returncode is None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 15)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


class Server(ABC):
    """What is behind the proxy."""

    name: str
    recovers = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def worker(
        self, records: Path, url_port: int, first: int, count: int, settings: Any
    ) -> Process: ...

    @abstractmethod
    async def send(self, first: int, count: int, rate: float, records: Path) -> dict[str, Any]: ...


class Roomcast(Server):
    """The stage of this project on the stand-in."""

    name = "Roomcast"

    async def start(self) -> None:
        log = self.folder / "stage.log"
        self.stage = await Process.start(sys.executable, "-m", "bench.cuts.stage", log=log)
        where = await self.stage.hear()
        self.port, self.environment = where["port"], where["environment"]
        log = self.folder / "sender.log"
        command = (sys.executable, "-m", "bench.cuts.sender")
        self.sender = await Process.start(*command, log=log, **self.environment)

    async def stop(self) -> None:
        await self.sender.stop()
        await self.stage.stop()

    async def worker(self, records: Path, url_port: int, first: int, count: int, settings: Any) -> Process:
        secret = self.environment["JWT_SECRET"]
        options = {
            "url": f"ws://127.0.0.1:{url_port}/local",
            "tokens": [token(f"c{number}", secret) for number in range(first, first + count)],
            "first": first,
            "room": ROOM,
            "records": str(records),
            "settings": settings,
        }
        script = str(HERE / "roomcast_clients.mjs")
        return await Process.start("node", script, json.dumps(options), log=self.folder / "clients.log")

    async def send(self, first: int, count: int, rate: float, records: Path) -> dict[str, Any]:
        job = {"room": ROOM, "first": first, "count": count, "rate": rate, "threads": 4}
        answer: dict[str, Any] = await self.sender.ask({**job, "records": str(records)})
        return answer


class SocketIO(Server):
    """Socket.IO in one process, with connection state recovery."""

    name = "Socket.IO, with recovery"
    environment: dict[str, str] = {"RECOVERY": "1"}  # noqa: RUF012

    async def start(self) -> None:
        self.modules, self.port = install("socketio"), free_port()
        shutil.copy(HERE / "tally.mjs", self.modules)
        self.process = await Process.start(
            "node",
            str(self.modules / "room.js"),
            log=self.folder / "socketio.log",
            PORT=str(self.port),
            **self.environment,
        )

    async def stop(self) -> None:
        await self.process.stop()

    async def worker(self, records: Path, url_port: int, first: int, count: int, settings: Any) -> Process:
        options = {
            "url": f"http://127.0.0.1:{url_port}",
            "tokens": ["x"] * count,
            "first": first,
            "room": ROOM,
            "records": str(records),
        }
        script = str(self.modules / "clients.mjs")
        return await Process.start("node", script, json.dumps(options), log=self.folder / "clients.log")

    async def send(self, first: int, count: int, rate: float, records: Path) -> dict[str, Any]:
        began = time.monotonic()
        for number in range(count):
            if rate:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            data = {"n": first + number, "sent": time.time() * 1000}
            self.process.tell({"room": ROOM, "data": data})
        taken = time.monotonic() - began
        return {"seconds": taken, "rate": count / max(taken, 0.001), "failures": 0}


class PlainSocketIO(SocketIO):
    """The same without."""

    name = "Socket.IO, without"
    recovers = False
    environment: dict[str, str] = {}  # noqa: RUF012


@dataclass
class Account:
    """What a run has brought."""

    server: str
    schedule: str
    clients: int
    sent: int
    rate: float
    delivered: int
    out_of_order: int
    repeated: int
    gaps: int
    gaps_told: list[int]
    delays: list[float]
    frames: int
    history: int
    connects: int
    recovered: int
    verdict: str = ""
    violations: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.delivered / max(1, self.clients * self.sent)

    def delay(self, share: float) -> float:
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Run:
    """The clients of one schedule on one server.

    Args:
        server: has been started.
        clients: how many.
        settings: options of the client.
    """

    def __init__(self, server: Server, clients: int, settings: dict[str, Any] | None = None) -> None:
        self.server = server
        self.clients = clients
        self.settings = settings or {}
        self.proxy = Proxy(server.port)
        self.workers: list[Process] = []
        self.records: list[Path] = []
        self.first, self.sent, self.rate = 0, 0, 0.0

    async def begin(self) -> None:
        """Start the clients, and wait until all are in the room."""
        await self.proxy.start()
        sizes = [self.clients // WORKERS + (n < self.clients % WORKERS) for n in range(WORKERS)]
        first = 0
        stamp = f"{time.time():.0f}"
        for number, size in enumerate(sizes):
            records = self.server.folder / f"clients-{stamp}-{number}.jsonl"
            self.records.append(records)
            worker = await self.server.worker(records, self.proxy.port, first, size, self.settings)
            await worker.hear()
            self.workers.append(worker)
            first += size
        self.records.append(self.server.folder / f"backend-{stamp}.jsonl")
        await self.until(lambda now: bool(now["ready"] == self.clients), SETTLE)

    async def send(self, count: int, rate: float) -> None:
        """Send, and wait until the last send has returned."""
        answer = await self.server.send(self.first + self.sent, count, rate, self.records[-1])
        self.sent += count
        self.rate = answer["rate"]

    async def status(self) -> dict[str, Any]:
        command = {"do": "status", "first": self.first, "count": self.sent}
        answers = [await worker.ask(command) for worker in self.workers]
        told = [gaps for answer in answers for gaps in answer.pop("gapsTold")]
        return {**{key: sum(answer[key] for answer in answers) for key in answers[0]}, "gapsTold": told}

    async def until(self, condition: Callable[[dict[str, Any]], bool], timeout: float) -> bool:
        """Wait for what the clients say; False if it does not come in time."""
        deadline = time.monotonic() + timeout
        while not condition(await self.status()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.3)
        return True

    async def settle(self) -> None:
        """Wait until everybody is back, and has what it will get."""
        everything = self.clients * self.sent
        if not self.server.recovers:
            await self.until(lambda now: bool(now["ready"] == self.clients), SETTLE)
            await asyncio.sleep(1)
        elif not await self.until(lambda now: bool(now["delivered"] == everything), SETTLE):
            print("    (not everything came in time)", flush=True)

    async def end(self, schedule: str) -> Account:
        now = await self.status()
        delays = [delay for worker in self.workers for delay in (await worker.ask({"do": "end"}))["delays"]]
        await self.proxy.stop()
        for worker in self.workers:
            await worker.stop()
        return Account(
            server=self.server.name,
            schedule=schedule,
            clients=self.clients,
            sent=self.sent,
            rate=self.rate,
            delivered=now["delivered"],
            out_of_order=now["outOfOrder"],
            repeated=now["repeated"],
            gaps=now["gaps"],
            gaps_told=now["gapsTold"],
            delays=delays,
            frames=now["received"] + now["sent"],
            history=now["history"],
            connects=now["connects"],
            recovered=now["recovered"],
        )


async def while_sending(run: Run, count: int, rate: float, cuts: Callable[[], Awaitable[None]]) -> None:
    """Cut clients for as long as messages are sent, then let everybody through."""
    cutting = asyncio.ensure_future(cuts())
    try:
        await run.send(count, rate)
    finally:
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)
        for who in range(run.clients):
            run.proxy.mend(who)


dice = random.Random(18)
