"""Runs handler code as Lambda does: one event at a time in a worker process, with a deadline.

Each function has a pool of workers that grows under load up to a cap and shrinks when idle. A worker is
`awslambdaric`, the official runtime client, against a Runtime API of its own on a loopback port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roomcast_dev.local.errors import LocalRunError
from roomcast_dev.local.template.reader import REGION, Function
from roomcast_dev.local.wire.http import Listener, Reply, loopback_socket
from roomcast_dev.local.wire.messages import Request, Response

MAX_WORKERS = 8  # ours: a laptop has few cores, and a hanging handler must not take all of them
GROW_AFTER = 0.05  # ours: seconds that an event waits before the pool may start one more worker
BUSY_WORKERS = max(2, os.cpu_count() or 1)  # ours: more do not help those that compute, only those that wait
BLOCKED_AFTER = (
    0.1  # ours: seconds without an event done after which all workers count as waiting for something
)
SHRINK_AFTER = 10.0  # ours: seconds of idleness after which all workers but one end
INIT_TIMEOUT = 10.0  # Lambda quota: seconds for the import of the code
MAX_ANSWER = 6 * 1024 * 1024  # Lambda quota: response payload of a synchronous invocation
MAX_LOG_LINE = 8 * 1024  # ours: bytes of one line shown on the console

_API = "/2018-06-01/runtime/"

LogLine = Callable[[str, str, str], None]
"""Called with a function's name, a request id (or "") and one line of its output."""


class FunctionError(Exception):
    """The function gave no result: it raised, ended, could not start, or took too long."""

    def __init__(self, function: str, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.function = function
        self.kind = kind
        self.message = message


class FunctionTimeoutError(FunctionError):
    """The function did not answer within its timeout; its worker was ended."""


@dataclass(slots=True)
class _Invocation:
    request_id: str
    event: bytes
    result: asyncio.Future[Any]
    deadline_ms: int = 0


@dataclass(eq=False, slots=True)
class _Worker:
    pool: _Pool
    listener: Listener | None = None
    pid: int = 0
    next: Reply | None = None
    """The unanswered request for the next event: the worker is idle."""
    current: _Invocation | None = None
    timer: asyncio.TimerHandle | None = None
    stale: bool = False
    killed_for: FunctionError | None = None
    init_error: FunctionError | None = None
    idle_since: float = 0.0


class FunctionHost:
    """All functions of a stack.

    Args:
        log: told each line that a function writes.
    """

    def __init__(self, log: LogLine) -> None:
        self._log = log
        self._inline: tempfile.TemporaryDirectory[str] | None = None
        self._parent: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._started: asyncio.Future[int] | None = None
        self._ready = asyncio.Event()
        self._stopping = False
        self._pools: dict[str, _Pool] = {}
        self.workers: dict[int, _Worker] = {}

    def define(
        self,
        functions: Mapping[str, Function],
        environments: Mapping[str, Mapping[str, str]],
        *,
        source_path: Sequence[Path] = (),
    ) -> None:
        """Say which functions there are, and start a first worker for each.

        Args:
            functions: by logical id.
            environments: evaluated environment of each, by logical id.
            source_path: import path used in place of the assets' copies, so that a saved file counts.
        """
        for logical_id, function in functions.items():
            path = self._path(function, source_path)
            self._pools[logical_id] = _Pool(self, function, path, dict(environments[logical_id]))
        for pool in self._pools.values():
            pool.grow()

    def _path(self, function: Function, source_path: Sequence[Path]) -> list[str]:
        if function.inline is not None:
            if self._inline is None:
                self._inline = tempfile.TemporaryDirectory(prefix="local-functions-")
            folder = Path(self._inline.name) / function.logical_id
            folder.mkdir()
            (folder / "index.py").write_text(function.inline)
            return [str(folder)]
        return [str(path) for path in (source_path or function.code)]

    async def start(self) -> None:
        """Start the process that workers are forked from."""
        parent, child = socket.socketpair()
        parent.setblocking(False)
        self._parent = parent
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roomcast_dev.local.lambda_host.worker",
            str(child.fileno()),
            pass_fds=[child.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            cwd=Path(__file__).parents[3],
            env={**_inherited(), "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"},
        )
        child.close()
        self._listener = asyncio.create_task(self._listen(parent))
        self._sweeper = asyncio.create_task(self._sweep())
        await self._ready.wait()
        if self._stopping:
            raise LocalRunError("the function host ended while it started")

    async def stop(self) -> None:
        """End every worker."""
        self._stopping = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for worker in list(self.workers.values()):
            _kill(worker)
        if self._parent is not None and self._process is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._parent.shutdown(socket.SHUT_RDWR)  # the end of the socket ends the process
            await self._process.wait()
        if self._listener is not None:
            await self._listener
        for pool in self._pools.values():
            pool.close()
        if self._parent is not None:
            self._parent.close()
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

    def name(self, logical_id: str) -> str:
        """The name of a function."""
        return self._pools[logical_id].function.name

    def reload(self) -> None:
        """Take up changed code: idle workers end now, busy ones after their event."""
        for worker in list(self.workers.values()):
            worker.stale = True
            if worker.current is None:
                _kill(worker)
        for pool in self._pools.values():
            pool.reloaded()

    def log(self, function: str, request_id: str, line: str) -> None:
        self._log(function, request_id, line)

    async def fork(self, handler: str, path: list[str], environment: Mapping[str, str], output: int) -> int:
        """Start one worker process writing to the descriptor `output`; returns its process id."""
        async with self._starting:
            if self._stopping or self._parent is None:
                raise LocalRunError("the function host has stopped")
            self._started = asyncio.get_running_loop().create_future()
            request = {"handler": handler, "path": path, "environment": environment}
            socket.send_fds(self._parent, [json.dumps(request).encode() + b"\n"], [output])
            return await self._started

    async def _listen(self, parent: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        buffer = b""
        while True:
            try:
                data = await loop.sock_recv(parent, 65536)
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
        for pid in list(self.workers):
            self._ended(pid, -signal.SIGKILL)

    def _ended(self, pid: int, status: int) -> None:
        worker = self.workers.pop(pid, None)
        if worker is not None:
            worker.pool.ended(worker, status)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SHRINK_AFTER / 4)
            for pool in self._pools.values():
                pool.shrink()


class _Pool:
    """The workers of one function and the events that wait for them."""

    def __init__(
        self, host: FunctionHost, function: Function, path: list[str], environment: dict[str, str]
    ) -> None:
        self.host = host
        self.function = function
        self._path = path
        self.environment = environment
        self._cap = min(MAX_WORKERS, function.concurrency or MAX_WORKERS)
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._waiting: deque[_Invocation] = deque()
        self._growing = 0
        self._last_done = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def invoke(self, event: bytes) -> Any:
        invocation = _Invocation(str(uuid.uuid4()), event, asyncio.get_running_loop().create_future())
        if self._idle:
            self._give(self._idle.pop(), invocation)
        else:
            self._waiting.append(invocation)
            if not self._workers and not self._growing:
                self.grow()
            else:
                asyncio.get_running_loop().call_later(GROW_AFTER, self._grow_for, invocation)
        try:
            return await invocation.result
        finally:
            if invocation in self._waiting:  # given up by the caller before a worker had it
                self._waiting.remove(invocation)

    def _grow_for(self, invocation: _Invocation) -> None:
        if invocation in self._waiting:
            blocked = time.monotonic() - self._last_done > BLOCKED_AFTER
            if not self._growing and (len(self._workers) < BUSY_WORKERS or blocked):
                self.grow()
            asyncio.get_running_loop().call_later(GROW_AFTER, self._grow_for, invocation)

    def grow(self) -> None:
        """Start one more worker unless the cap is reached."""
        if len(self._workers) + self._growing < self._cap:
            self._growing += 1
            task = asyncio.get_running_loop().create_task(self._start())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def shrink(self) -> None:
        """End workers that have been idle for long, all but one."""
        limit = time.monotonic() - SHRINK_AFTER
        for worker in [w for w in self._idle if w.idle_since < limit]:
            if len(self._workers) > 1:
                self._workers.discard(worker)
                self._idle.remove(worker)
                worker.stale = True
                _kill(worker)

    def reloaded(self) -> None:
        self._idle.clear()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for invocation in self._waiting:
            if not invocation.result.done():
                invocation.result.set_exception(self._error("Runtime.Stopped", "the local stack stops"))
        self._waiting.clear()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        worker = _Worker(self)
        try:
            sock = loopback_socket()
            port = sock.getsockname()[1]
            worker.listener = Listener(lambda request, reply: self._runtime_api(worker, request, reply))
            await worker.listener.start([sock])
            await loop.connect_read_pipe(lambda: _Output(worker), os.fdopen(read, "rb", 0))
            worker.pid = await self.host.fork(
                self.function.handler,
                self._path,
                self._worker_environment(port),
                write,
            )
        except LocalRunError as error:
            for invocation in self._waiting:
                if not invocation.result.done():
                    invocation.result.set_exception(self._error("Runtime.Stopped", str(error)))
            self._waiting.clear()
        else:
            self._workers.add(worker)
            self.host.workers[worker.pid] = worker
            if worker.current is None and worker.next is None:
                worker.timer = loop.call_later(
                    max(INIT_TIMEOUT, self.function.timeout), self._start_timed_out, worker
                )
        finally:
            os.close(write)
            self._growing -= 1

    def _worker_environment(self, port: int) -> dict[str, str]:
        name = self.function.name
        return {
            **_inherited(),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.function.memory),
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"local/[$LATEST]{uuid.uuid4().hex}",
            "LAMBDA_TASK_ROOT": self._path[0] if self._path else "",
            "PYTHONPATH": "",
            "TZ": ":UTC",
            "_HANDLER": self.function.handler,
            **self.environment,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        }

    # The Runtime API, from the worker's side

    def _runtime_api(self, worker: _Worker, request: Request, reply: Reply) -> None:
        if not request.path.startswith(_API):
            reply(Response(404))
            return
        call = request.path.removeprefix(_API)
        if call == "invocation/next":
            self._next(worker, reply)
        elif call == "init/error":
            reply(Response(202))
            worker.init_error = self._reported(request.body)
        else:
            _, request_id, outcome = call.split("/", 2)
            reply(Response(202))
            self._outcome(worker, request_id, outcome, request.body)

    def _next(self, worker: _Worker, reply: Reply) -> None:
        worker.next = reply
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None
        if worker.stale:
            _kill(worker)
        elif self._waiting:
            self._give(worker, self._waiting.popleft())
        else:
            worker.idle_since = time.monotonic()
            self._idle.append(worker)

    def _outcome(self, worker: _Worker, request_id: str, outcome: str, body: bytes) -> None:
        invocation = worker.current
        if invocation is None or invocation.request_id != request_id:
            return
        worker.current = None
        self._last_done = time.monotonic()
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None
        if invocation.result.done():
            return
        if outcome == "error":
            invocation.result.set_exception(self._reported(body))
        elif len(body) > MAX_ANSWER:
            invocation.result.set_exception(
                self._error("Function.ResponseSizeTooLarge", f"{len(body)} bytes, over {MAX_ANSWER}")
            )
        else:
            invocation.result.set_result(json.loads(body) if body else None)

    def _give(self, worker: _Worker, invocation: _Invocation) -> None:
        reply, worker.next = worker.next, None
        if reply is None:
            raise RuntimeError("an event was given to a worker that did not ask for one")
        worker.current = invocation
        timeout = self.function.timeout
        worker.timer = asyncio.get_running_loop().call_later(timeout, self._timed_out, worker)
        reply(
            Response(
                200,
                invocation.event,
                {
                    "Content-Type": "application/json",
                    "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                    "Lambda-Runtime-Deadline-Ms": str(int((time.time() + timeout) * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": self.function.arn,
                },
            )
        )

    def _timed_out(self, worker: _Worker) -> None:
        timeout = self.function.timeout
        worker.killed_for = FunctionTimeoutError(
            self.function.name, "Sandbox.Timedout", f"Task timed out after {timeout:.2f} seconds"
        )
        _kill(worker)

    def _start_timed_out(self, worker: _Worker) -> None:
        worker.init_error = self._error("Sandbox.Timedout", "the function's code took too long to import")
        self.host.log(self.function.name, "", str(worker.init_error))
        _kill(worker)

    def ended(self, worker: _Worker, status: int) -> None:
        """A worker's process has ended, wanted or not."""
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.listener is not None:
            worker.listener.close()
        if worker.timer is not None:
            worker.timer.cancel()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        error = (
            worker.killed_for or worker.init_error or self._error("Runtime.ExitError", f"ended with {how}")
        )
        invocation, worker.current = worker.current, None
        if invocation is None and worker.init_error is not None and self._waiting:
            invocation = self._waiting.popleft()
        if invocation is not None:
            self.host.log(self.function.name, invocation.request_id, str(error))
            if not invocation.result.done():
                invocation.result.set_exception(error)
        elif not worker.stale and worker.init_error is None and self._waiting:
            # It ended before it took an event: the one that waits longest learns why.
            self._waiting.popleft().result.set_exception(error)
        if self._waiting and not self._workers and not self._growing:
            self.grow()

    def _reported(self, body: bytes) -> FunctionError:
        try:
            report = json.loads(body)
            return self._error(report.get("errorType") or "Error", report.get("errorMessage") or "")
        except (ValueError, AttributeError):
            return self._error("Error", "unreadable error report")

    def _error(self, kind: str, message: str) -> FunctionError:
        return FunctionError(self.function.name, kind, message)


class _Output(asyncio.Protocol):
    """What a worker writes, line by line; a long line is cut, never kept whole."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._line = bytearray()
        self._cut = 0

    def data_received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            self._emit()
        self._add(rest)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._line:
            self._emit()

    def _add(self, data: bytes) -> None:
        room = MAX_LOG_LINE - len(self._line)
        self._line += data[:room]
        self._cut += max(0, len(data) - room)

    def _emit(self) -> None:
        text = self._line.decode(errors="replace").rstrip("\r")
        if self._cut:
            text += f" ... ({self._cut} more bytes)"
        self._line.clear()
        self._cut = 0
        if text:
            current = self._worker.current
            pool = self._worker.pool
            for line in text.split("\r"):  # awslambdaric joins the lines of a stack trace with \r
                pool.host.log(pool.function.name, current.request_id if current else "", line)


def _kill(worker: _Worker) -> None:
    if worker.pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)


def _inherited() -> dict[str, str]:
    """The few variables of ours that a worker may see: no credentials, no profile, no proxies."""
    kept = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR") if k in os.environ}
    return {**kept, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
