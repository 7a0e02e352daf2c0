"""One thing to measure: its processes, its memory, and what its clients say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from bench.local.client import Client
from tests.support.packages import ROOT

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Peer(ABC):
    """One thing to measure: how to start it, and what its clients say."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.counted: list[subprocess.Popen[bytes]] = []
        """Those whose memory is counted."""

    def spawn(
        self,
        command: list[str],
        *,
        counted: bool = True,
        cwd: Path = ROOT,
        pipe: bool = False,
        pass_fds: Sequence[int] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{self.name}.log").open("ab")
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **CREDENTIALS, **environment},
            stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self.processes.append(process)
        if counted:
            self.counted.append(process)
        return process

    async def prepare(self) -> None:  # noqa: B027 most need nothing
        """What does not count as starting: installation, a database next to it."""

    @abstractmethod
    async def start(self) -> None:
        """Spawn it; it need not take connections yet."""

    @abstractmethod
    def url(self, user: str) -> str: ...

    async def ready(self, client: Client) -> None:  # noqa: B027
        """What a client does after the handshake."""

    def ping(self) -> bytes:
        return b'{"action":"ping"}'

    def join(self, room: str) -> bytes:
        return json.dumps({"action": "chat:join_room", "roomId": room}).encode()

    async def begin_sends(self) -> None:  # noqa: B027
        """Start what sends to rooms: a backend that runs already when the clock starts."""

    async def send_to_room(self, room: str) -> None:
        """Have the backend send one event to the room."""
        raise NotImplementedError

    def memory_mb(self) -> float:
        return sum(pss(pid) for process in self.counted for pid in tree(process.pid)) / 1024

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def pss(pid: int) -> int:
    """Kilobytes of a process, shared pages divided by their sharers."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
