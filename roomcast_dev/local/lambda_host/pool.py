"""The worker processes of one function, and the events that wait for them.

A worker is `awslambdaric`, the official runtime client, talking to a Runtime API of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from roomcast_dev.local.environment import child_environment
from roomcast_dev.local.errors import LocalRunError
from roomcast_dev.local.lambda_host.invocation import FunctionError, FunctionTimeoutError, Invocation
from roomcast_dev.local.lambda_host.output import FunctionOutput
from roomcast_dev.local.lambda_host.runtime_api import RuntimeApi
from roomcast_dev.local.template.model import REGION, LambdaFunction
from roomcast_dev.local.wire.messages import Respond, Response

INIT_TIMEOUT = 10.0  # Lambda quota: seconds for the import of the code
MAX_RESULT = 6 * 1024 * 1024  # Lambda quota: bytes that a synchronous invocation may return

Log = Callable[[str, str], None]
"""Called with a request id (or "") and one line of a worker's output."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How a pool grows and shrinks; times in seconds. All of them are ours, none is a quota of Lambda."""

    max_workers: int = 8
    """A laptop has few cores, and a handler that hangs must not take all of them."""
    busy_workers: int = max(2, os.cpu_count() or 1)
    """More do not help handlers that compute, only those that wait."""
    grow_after: float = 0.05
    """How long an event waits before the pool may start one more worker."""
    blocked_after: float = 0.1
    """How long no event has finished before all workers count as waiting for something."""
    shrink_after: float = 10.0
    """How long workers are idle before all of them but one end."""


@dataclass(frozen=True, slots=True)
class Fork:
    """What a new worker process needs."""

    handler: str
    path: Sequence[str]
    environment: dict[str, str]
    output: int
    """Descriptor that it writes its output to."""


ForkWorker = Callable[[Fork, Callable[[int], None]], Awaitable[int]]
"""Starts a worker process and returns its id; the callable is called with its exit status when it ends.

Raises `LocalRunError` if no process can be started.
"""


@dataclass(eq=False, slots=True)
class FunctionWorker:
    """One worker process, as its pool sees it."""

    api: RuntimeApi | None = None
    pid: int = 0
    next: Respond | None = None
    """The open request for the next event: the worker is idle."""
    current: Invocation | None = None
    timer: asyncio.TimerHandle | None = None
    stale: bool = False
    killed_for: FunctionError | None = None
    init_error: FunctionError | None = None
    idle_since: float = 0.0

    def kill(self) -> None:
        """End the process, and what it has started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def stop_timer(self) -> None:
        """Forget the current deadline."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FunctionPool:
    """Runs the events of one function.

    Args:
        function: what the template says about it.
        path: import path of its code.
        environment: its evaluated environment.
        fork: starts a worker process.
        log: called with each line that a worker writes.
        limits: how the pool grows and shrinks.
    """

    def __init__(
        self,
        function: LambdaFunction,
        path: Sequence[str],
        environment: dict[str, str],
        *,
        fork: ForkWorker,
        log: Log,
        limits: PoolLimits,
    ) -> None:
        self.function = function
        self.environment = environment
        self._path = path
        self._fork = fork
        self._log = log
        self._limits = limits
        self._cap = min(limits.max_workers, function.concurrency or limits.max_workers)
        self._workers: set[FunctionWorker] = set()
        self._idle: list[FunctionWorker] = []
        self._waiting: deque[Invocation] = deque()
        self._growing = 0
        self._last_done = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return [worker.pid for worker in self._workers]

    async def invoke(self, event: bytes) -> Any:
        """Run one event and return what the function returned, decoded.

        Raises:
            FunctionError: it returned nothing.
        """
        invocation = Invocation(str(uuid.uuid4()), event, asyncio.get_running_loop().create_future())
        if self._idle:
            self._give(self._idle.pop(), invocation)
        else:
            self._waiting.append(invocation)
            if not self._workers and not self._growing:
                self.grow()
            else:
                asyncio.get_running_loop().call_later(self._limits.grow_after, self._grow_for, invocation)
        try:
            return await invocation.result
        finally:
            if invocation in self._waiting:  # given up by the caller before a worker had it
                self._waiting.remove(invocation)

    def _grow_for(self, invocation: Invocation) -> None:
        if invocation in self._waiting:
            blocked = time.monotonic() - self._last_done > self._limits.blocked_after
            if not self._growing and (len(self._workers) < self._limits.busy_workers or blocked):
                self.grow()
            asyncio.get_running_loop().call_later(self._limits.grow_after, self._grow_for, invocation)

    def grow(self) -> None:
        """Start one more worker unless the cap is reached."""
        if len(self._workers) + self._growing < self._cap:
            self._growing += 1
            task = asyncio.get_running_loop().create_task(self._start())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def shrink(self) -> None:
        """End workers that have been idle for long, all but one."""
        limit = time.monotonic() - self._limits.shrink_after
        for worker in [w for w in self._idle if w.idle_since < limit]:
            if len(self._workers) > 1:
                self._workers.discard(worker)
                self._idle.remove(worker)
                worker.stale = True
                worker.kill()

    def reload(self) -> None:
        """Use changed code from now on: idle workers end at once, busy ones after their event."""
        for worker in self._workers:
            worker.stale = True
            if worker.current is None:
                worker.kill()
        self._idle.clear()

    def kill(self) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.kill()

    def close(self) -> None:
        """Fail the events that still wait, and start no more workers."""
        for task in self._tasks:
            task.cancel()
        self._fail_waiting("the local run stops")

    def _fail_waiting(self, reason: str) -> None:
        for invocation in self._waiting:
            invocation.fail(self._error("Runtime.Stopped", reason))
        self._waiting.clear()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        worker = FunctionWorker()
        try:
            worker.api = RuntimeApi(
                on_next=lambda respond: self._next(worker, respond),
                on_outcome=lambda *outcome: self._outcome(worker, *outcome),
                on_init_error=lambda body: self._init_failed(worker, body),
            )
            port = await worker.api.start()
            await loop.connect_read_pipe(
                lambda: FunctionOutput(lambda line: self._output(worker, line)), os.fdopen(read, "rb", 0)
            )
            fork = Fork(self.function.handler, self._path, self._worker_environment(port), write)
            worker.pid = await self._fork(fork, lambda status: self._ended(worker, status))
        except LocalRunError as error:
            self._fail_waiting(str(error))
        else:
            self._workers.add(worker)
            if worker.current is None and worker.next is None:
                worker.timer = loop.call_later(
                    max(INIT_TIMEOUT, self.function.timeout), self._start_timed_out, worker
                )
        finally:
            os.close(write)
            self._growing -= 1

    def _output(self, worker: FunctionWorker, line: str) -> None:
        self._log(worker.current.request_id if worker.current else "", line)

    def _worker_environment(self, port: int) -> dict[str, str]:
        name = self.function.name
        return {
            **child_environment(),
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

    def _init_failed(self, worker: FunctionWorker, body: bytes) -> None:
        worker.init_error = self._reported(body)

    def _next(self, worker: FunctionWorker, respond: Respond) -> None:
        worker.next = respond
        worker.stop_timer()
        if worker.stale:
            worker.kill()
        elif self._waiting:
            self._give(worker, self._waiting.popleft())
        else:
            worker.idle_since = time.monotonic()
            self._idle.append(worker)

    def _outcome(self, worker: FunctionWorker, request_id: str, outcome: str, body: bytes) -> None:
        invocation = worker.current
        if invocation is None or invocation.request_id != request_id:
            return
        worker.current = None
        self._last_done = time.monotonic()
        worker.stop_timer()
        if outcome == "error":
            invocation.fail(self._reported(body))
        elif len(body) > MAX_RESULT:
            too_large = f"{len(body)} bytes, over {MAX_RESULT}"
            invocation.fail(self._error("Function.ResponseSizeTooLarge", too_large))
        elif not invocation.result.done():
            invocation.result.set_result(json.loads(body) if body else None)

    def _give(self, worker: FunctionWorker, invocation: Invocation) -> None:
        respond, worker.next = worker.next, None
        if respond is None:
            raise RuntimeError("an event was given to a worker that did not ask for one")
        worker.current = invocation
        timeout = self.function.timeout
        worker.timer = asyncio.get_running_loop().call_later(timeout, self._timed_out, worker)
        respond(
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

    def _timed_out(self, worker: FunctionWorker) -> None:
        timeout = self.function.timeout
        worker.killed_for = FunctionTimeoutError(
            self.function.name, "Sandbox.Timedout", f"Task timed out after {timeout:.2f} seconds"
        )
        worker.kill()

    def _start_timed_out(self, worker: FunctionWorker) -> None:
        worker.init_error = self._error("Sandbox.Timedout", "the function's code took too long to import")
        self._log("", str(worker.init_error))
        worker.kill()

    def _ended(self, worker: FunctionWorker, status: int) -> None:
        """A worker's process has ended, wanted or not."""
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.api is not None:
            worker.api.close()
        worker.stop_timer()
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        error = (
            worker.killed_for or worker.init_error or self._error("Runtime.ExitError", f"ended with {how}")
        )
        invocation, worker.current = worker.current, None
        if invocation is None and worker.init_error is not None and self._waiting:
            invocation = self._waiting.popleft()
        if invocation is not None:
            self._log(invocation.request_id, str(error))
            invocation.fail(error)
        elif not worker.stale and worker.init_error is None and self._waiting:
            # It ended before it took an event: the event that has waited longest gets the reason.
            self._waiting.popleft().fail(error)
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
