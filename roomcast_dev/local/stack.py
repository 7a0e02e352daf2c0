"""A whole stack on this machine: synthesize, start MiniStack, run the functions, serve the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from roomcast_dev.local.api_gateway.gateway import ApiGateway
from roomcast_dev.local.assembly import synthesize
from roomcast_dev.local.console import Console
from roomcast_dev.local.environment import CREDENTIALS
from roomcast_dev.local.errors import LocalRunError, MiniStackError
from roomcast_dev.local.faults import Faults
from roomcast_dev.local.lambda_host.host import FunctionHost
from roomcast_dev.local.lambda_host.pool import PoolLimits
from roomcast_dev.local.ministack.process import MiniStack
from roomcast_dev.local.queues import QueuePoller
from roomcast_dev.local.template.model import Template
from roomcast_dev.local.template.reader import load
from roomcast_dev.local.wire.http import Listener
from roomcast_dev.local.wire.messages import Handler
from roomcast_dev.local.wire.sockets import listen


@dataclass(frozen=True, slots=True)
class Project:
    """A CDK project with a WebSocket API.

    Args:
        directory: where `cdk.json` is.
        context: what `cdk` would get as `-c key=value`.
        sources: what the template depends on; empty: every source file in the directory.
        source_path: import path of the functions' sources; empty: the code as it was when synthesized.
        watched: folders whose change gives the functions new workers.
        stack: name of the stack to run, where several have a WebSocket API.
        cache: where synthesized assemblies are kept (default: `build/local/` in the directory).
    """

    directory: Path
    context: Mapping[str, object] = field(default_factory=dict)
    sources: Sequence[Path] = ()
    source_path: Sequence[Path] = ()
    watched: Sequence[Path] = ()
    stack: str | None = None
    cache: Path | None = None


class LocalRun:
    """One stack. `start()` it, `serve()`, `stop()` it; all of it on one event loop.

    Args:
        project: what to run.
        port: where clients connect, on loopback; 0 takes a free one.
        host: one more address to listen on, for the gateway and for MiniStack.
        ministack_port: where MiniStack listens; 0 takes a free one.
        time_scale: how many times faster API Gateway's limits of 10 minutes and 2 hours run.
        quotas: share of an AWS account's quotas to enforce; `None`: none.
        pool_limits: how the pools of function workers grow and shrink.
    """

    def __init__(
        self,
        project: Project,
        *,
        port: int = 0,
        host: str | None = None,
        ministack_port: int = 0,
        console: Console | None = None,
        time_scale: float = 1.0,
        quotas: float | None = None,
        pool_limits: PoolLimits | None = None,
    ) -> None:
        self.project = project
        self.port = port
        self._host_address = host
        self.console = console or Console(quiet=True)
        self.faults = Faults()
        self.failed: asyncio.Future[LocalRunError] = asyncio.get_running_loop().create_future()
        """Done when the stack cannot go on: MiniStack ended."""
        self.outputs: dict[str, str] = {}
        """The stack's outputs, as `cdk deploy --outputs-file` would give them, with local URLs."""
        self._time_scale = time_scale
        self._quotas = quotas
        self._template: Template | None = None
        self._gateway: ApiGateway | None = None
        self._ministack = MiniStack(ministack_port, host)
        self._host = FunctionHost(self.console.function, pool_limits)
        self._pollers: list[QueuePoller] = []
        self._sockets: list[socket.socket] = []
        self._listener: Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._application: Path | None = None
        self._links: tempfile.TemporaryDirectory[str] | None = None

    @property
    def gateway(self) -> ApiGateway:
        if self._gateway is None:
            raise LocalRunError("the local run has not been started")
        return self._gateway

    @property
    def template(self) -> Template:
        if self._template is None:
            raise LocalRunError("the local run has not been started")
        return self._template

    @property
    def ministack(self) -> MiniStack:
        return self._ministack

    @property
    def host(self) -> FunctionHost:
        return self._host

    @property
    def address(self) -> str:
        """Host and port, as clients write it."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """Where clients connect, `?token=` to be added."""
        return f"ws://{self.address}/{self.template.stage}"

    @property
    def callback_url(self) -> str:
        """Base URL of the management API."""
        return f"http://{self.address}/{self.template.stage}"

    async def start(self) -> None:
        """Start everything but the gateway; on an error nothing is left behind.

        Clients that come early wait: the port is taken first.

        Raises:
            LocalRunError: in one line why it cannot run.
        """
        self._sockets = listen(self.port, self._host_address)
        self.port = self._sockets[0].getsockname()[1]
        try:
            self._template = template = load(await self._prepare(), self.project.stack)
            for warning in template.warnings:
                self.console.problem(f"warning: {warning}")
            evaluated = await asyncio.to_thread(
                self._ministack.create, template.stack_name, template.emulated
            )
            self.outputs = {
                key: template.value(value, evaluated, local_url=self.address)
                for key, value in evaluated.items()
                if not key.startswith("LocalExpression")
            }
            self._host.define(
                template.functions,
                {
                    logical_id: {
                        **CREDENTIALS,
                        "AWS_ENDPOINT_URL": self._ministack.url,
                        **{
                            name: template.value(value, evaluated, local_url=self.address)
                            for name, value in function.environment.items()
                        },
                    }
                    for logical_id, function in template.functions.items()
                },
                source_path=self.project.source_path,
                first=self._link_application(template),
            )
            await self._poll_queues(evaluated)
        except BaseException:
            await self.stop()
            raise
        self._tasks.append(asyncio.create_task(self._watch_ministack()))
        if self.project.watched:
            self._tasks.append(asyncio.create_task(self._watch_sources(self.project.watched)))
        elif self._application is not None:
            self._tasks.append(asyncio.create_task(self._watch_sources([self._application])))

    async def stop(self) -> None:
        """End everything that was started; may be called twice."""
        self._stopping.set()
        if self._gateway is not None:
            await self._gateway.stop()
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
        for sock in self._sockets:
            sock.close()
        for poller in self._pollers:
            await poller.stop()
        self._pollers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self._host.stop(), self._ministack.stop())
        if self._links is not None:
            self._links.cleanup()

    def _link_application(self, template: Template) -> list[Path]:
        """A folder with nothing but a link to the application's source, where the functions have one.

        The rest of its folder must stay out of sight, as it is on Lambda.
        """
        paths = {function.application for function in template.functions.values() if function.application}
        if not paths or self.project.source_path:
            return []
        self._application = self.project.directory.resolve() / paths.pop()
        self._links = tempfile.TemporaryDirectory(prefix="local-application-")
        (Path(self._links.name) / self._application.name).symlink_to(self._application)
        return [Path(self._links.name)]

    def function_environment(self, handler: str) -> Mapping[str, str]:
        """The evaluated environment of the function with this handler string."""
        for logical_id, function in self.template.functions.items():
            if function.handler == handler:
                return self._host.environment(logical_id)
        raise LocalRunError(f"no function of the template has the handler {handler}")

    async def _prepare(self) -> Path:
        """Do at once what does not wait for one another: synthesize and start the processes."""
        assembly = asyncio.ensure_future(
            synthesize(
                self.project.directory,
                context=self.project.context,
                sources=self.project.sources,
                cache=self.project.cache or self.project.directory / "build" / "local",
                console=self.console,
            )
        )
        parts: list[asyncio.Future[Any]] = [
            assembly,
            asyncio.ensure_future(self._ministack.start()),
            asyncio.ensure_future(self._host.start()),
            asyncio.ensure_future(
                asyncio.to_thread(import_module, "roomcast_dev.local.aws")
            ),  # a fifth of a second
        ]
        try:
            await asyncio.gather(*parts)
        except BaseException:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            raise
        return assembly.result()

    async def _poll_queues(self, evaluated: Mapping[str, str]) -> None:
        template = self.template
        if template.mappings:
            sqs = await asyncio.to_thread(self._ministack.client, "sqs")
            for mapping in template.mappings:
                arn = template.value(mapping.queue_arn, evaluated, local_url=self.address)
                poller = QueuePoller(mapping, arn, sqs, self._host.invoke, self.console)
                await poller.start()
                self._pollers.append(poller)
        self._ministack.on_sent = self._wake_pollers

    def _wake_pollers(self) -> None:
        for poller in self._pollers:
            poller.wake()

    async def serve(self, pages: Handler | None = None) -> None:
        """Let clients in.

        Args:
            pages: answers plain HTTP requests that are not for the management API.
        """
        self._gateway = gateway = ApiGateway(
            self.template,
            self._host.invoke,
            address=self.address,
            console=self.console,
            faults=self.faults,
            pages=pages,
            time_scale=self._time_scale,
            quotas=self._quotas,
        )
        self._listener = Listener(gateway.on_request, gateway.on_upgrade)
        await self._listener.start(self._sockets)

    async def _watch_ministack(self) -> None:
        status = await self._ministack.wait()
        if not self._stopping.is_set() and not self.failed.done():
            self.failed.set_result(
                MiniStackError(
                    f"MiniStack ended (exit status {status}), and the tables with it: start again. "
                    f"Its last words: {self._ministack.last_words()}"
                )
            )

    async def _watch_sources(self, watched: Sequence[Path]) -> None:
        from watchfiles import Change, PythonFilter, awatch

        python = PythonFilter()

        def wanted(change: Change, path: str) -> bool:
            return python(change, path) and any(Path(path).is_relative_to(each) for each in watched)

        # The folder of a file: editors put another file in its place. Its other folders may be large.
        folders = {each if each.is_dir() else each.parent for each in watched}
        async for changes in awatch(
            *folders,
            watch_filter=wanted,
            stop_event=self._stopping,
            debounce=100,
            recursive=all(each.is_dir() for each in watched),
        ):
            started = time.perf_counter()
            names = sorted({Path(path).name for _, path in changes})
            self._host.reload()
            self.console.event("reload", "", ", ".join(names)[:80], started=started)


@contextlib.asynccontextmanager
async def running(stack: LocalRun) -> AsyncIterator[LocalRun]:
    """Start `stack`, and stop it at the end of the block."""
    await stack.start()
    try:
        await stack.serve()
        yield stack
    finally:
        await stack.stop()
