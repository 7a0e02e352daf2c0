"""Runs handler code as Lambda does: one event at a time in a worker process, with a deadline.

Each function has a pool of workers that grows under load up to a cap and shrinks when idle. All workers are
forked from one process that has imported boto3 (`worker.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roomcast_dev.local.environment import child_environment
from roomcast_dev.local.errors import LocalRunError
from roomcast_dev.local.lambda_host.pool import Fork, FunctionPool, PoolLimits
from roomcast_dev.local.template.model import LambdaFunction

LogLine = Callable[[str, str, str], None]
"""Called with a function's name, a request id (or "") and one line of its output."""


class FunctionHost:
    """All functions of a stack.

    Args:
        log: called with each line that a function writes.
        limits: how the pools grow and shrink.
    """

    def __init__(self, log: LogLine, limits: PoolLimits | None = None) -> None:
        self._log = log
        self._limits = limits or PoolLimits()
        self._inline: tempfile.TemporaryDirectory[str] | None = None
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._started: asyncio.Future[int] | None = None
        self._ready = asyncio.Event()
        self._stopping = False
        self._pools: dict[str, FunctionPool] = {}
        self._on_exit: dict[int, Callable[[int], None]] = {}

    def define(
        self,
        functions: Mapping[str, LambdaFunction],
        environments: Mapping[str, Mapping[str, str]],
        *,
        source_path: Sequence[Path] = (),
        first: Sequence[Path] = (),
    ) -> None:
        """Set which functions there are, and start a first worker for each.

        Args:
            functions: by logical id.
            environments: evaluated environment of each, by logical id.
            source_path: import path used in place of the assets' copies, so that a saved file counts.
            first: folders in front of either.
        """
        for logical_id, function in functions.items():
            path = [*map(str, first), *self._path(function, source_path)]
            self._pools[logical_id] = self._pool(function, dict(environments[logical_id]), path)
        for pool in self._pools.values():
            pool.grow()

    def _pool(self, function: LambdaFunction, environment: dict[str, str], path: list[str]) -> FunctionPool:
        return FunctionPool(
            function,
            path,
            environment,
            fork=self._fork,
            log=lambda request_id, line: self._log(function.name, request_id, line),
            limits=self._limits,
        )

    def _path(self, function: LambdaFunction, source_path: Sequence[Path]) -> list[str]:
        if function.inline is not None:
            if self._inline is None:
                self._inline = tempfile.TemporaryDirectory(prefix="local-functions-")
            folder = Path(self._inline.name) / function.logical_id
            folder.mkdir()
            (folder / "index.py").write_text(function.inline)
            return [str(folder)]
        return [str(path) for path in (source_path or function.code)]

    async def start(self) -> None:
        """Start the process that workers are forked from.

        Raises:
            LocalRunError: it ended at once.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._control = ours
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roomcast_dev.local.lambda_host.worker",
            str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            cwd=Path(__file__).parents[3],
            env={**child_environment(), "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"},
        )
        theirs.close()
        self._listener = asyncio.create_task(self._listen(ours))
        self._sweeper = asyncio.create_task(self._sweep())
        await self._ready.wait()
        if self._stopping:
            raise LocalRunError("the function host ended while it started")

    async def stop(self) -> None:
        """End every worker."""
        self._stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for pool in self._pools.values():
            pool.kill()
        if self._control is not None and self._process is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._control.shutdown(socket.SHUT_RDWR)  # the end of the socket ends the process
            await self._process.wait()
        if self._listener is not None:
            await self._listener
        for pool in self._pools.values():
            pool.close()
        if self._control is not None:
            self._control.close()
        if self._inline is not None:
            self._inline.cleanup()

    async def invoke(self, logical_id: str, event: Mapping[str, Any]) -> Any:
        """Run one event and return what the function returned, decoded.

        Raises:
            FunctionError: it raised, its process ended, its code cannot be imported, or it took too long.
        """
        return await self._pools[logical_id].invoke(json.dumps(event).encode())

    def environment(self, logical_id: str) -> Mapping[str, str]:
        """The evaluated environment of a function."""
        return self._pools[logical_id].environment

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return [pid for pool in self._pools.values() for pid in pool.pids]

    def reload(self) -> None:
        """Use changed code from now on: idle workers end at once, busy ones after their event."""
        for pool in self._pools.values():
            pool.reload()

    async def _fork(self, fork: Fork, on_exit: Callable[[int], None]) -> int:
        async with self._starting:
            if self._stopping or self._control is None:
                raise LocalRunError("the function host has stopped")
            self._started = asyncio.get_running_loop().create_future()
            request = {"handler": fork.handler, "path": fork.path, "environment": fork.environment}
            socket.send_fds(self._control, [json.dumps(request).encode() + b"\n"], [fork.output])
            pid = await self._started
            self._on_exit[pid] = on_exit
            return pid

    async def _listen(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        buffer = b""
        while True:
            try:
                data = await loop.sock_recv(control, 65536)
            except OSError:
                data = b""
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "ready" in message:
                    self._ready.set()
                elif "started" in message and self._started is not None:
                    self._started.set_result(message["started"])
                elif "ended" in message:
                    # A worker can end before its start has been noted: let that happen first.
                    loop.call_soon(self._ended, message["ended"], message["status"])
        if not self._stopping:
            self._stopping = True
            self._log("host", "", "the process that function workers come from has ended")
        self._ready.set()
        if self._started is not None and not self._started.done():
            self._started.set_exception(LocalRunError("the function host has ended"))
        for pid in list(self._on_exit):
            self._ended(pid, -signal.SIGKILL)

    def _ended(self, pid: int, status: int) -> None:
        if (on_exit := self._on_exit.pop(pid, None)) is not None:
            on_exit(status)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._limits.shrink_after / 4)
            for pool in self._pools.values():
                pool.shrink()
