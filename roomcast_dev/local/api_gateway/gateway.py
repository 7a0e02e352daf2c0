"""Plays API Gateway for one WebSocket API: connections, their lifetime, and who gets each request.

The behaviour follows AWS; `tests/integration/local/` has a test for each statement. What a route does comes
from the template, what a function does from the function host.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from roomcast_dev.local.api_gateway.connection import OpenConnection
from roomcast_dev.local.api_gateway.events import Events, new_id
from roomcast_dev.local.api_gateway.handshake import Handshake
from roomcast_dev.local.api_gateway.limits import IDLE_TIMEOUT, MAX_DURATION, Quotas
from roomcast_dev.local.api_gateway.management import Management
from roomcast_dev.local.api_gateway.messages import Messages
from roomcast_dev.local.api_gateway.problem import ProblemError
from roomcast_dev.local.api_gateway.sends import Sends
from roomcast_dev.local.console import Console, client_text
from roomcast_dev.local.faults import Faults
from roomcast_dev.local.lambda_host.invocation import FunctionError, Invoke
from roomcast_dev.local.template.model import Mock, Template
from roomcast_dev.local.wire.messages import Handler, Request, Respond, Response
from roomcast_dev.local.wire.websocket import Upgrade


class ApiGateway:
    """One WebSocket API on one local port.

    Args:
        template: routes, stage and throttle.
        invoke: runs a function.
        address: host and port as clients write it, `localhost:3001`.
        pages: answers HTTP requests that are not for the management API (the demo page).
        time_scale: how many times faster the limits of 10 minutes and 2 hours run.
        quotas: share of the account's quotas to enforce, 1.0 as a new AWS account has them; `None`: no quota.
    """

    def __init__(
        self,
        template: Template,
        invoke: Invoke,
        *,
        address: str,
        console: Console,
        faults: Faults,
        pages: Handler | None = None,
        time_scale: float = 1.0,
        quotas: float | None = None,
    ) -> None:
        self.connections: dict[str, OpenConnection] = {}
        self._invoke = invoke
        self._console = console
        self._faults = faults
        self._pages = pages
        self._on_disconnect = template.routes.get("$disconnect")
        self._idle_timeout = IDLE_TIMEOUT / time_scale
        self._max_duration = MAX_DURATION / time_scale
        enforced = Quotas() if quotas is None else Quotas.of_account(quotas, template.throttle)
        self._events = events = Events(template.stage, address)
        self._handshake = Handshake(template, invoke, events=events, quotas=enforced, faults=faults)
        self._messages = Messages(template, invoke, events=events, quotas=enforced, console=console)
        self._management = Management(template.stage, self.connections.get, quotas=enforced, faults=faults)
        self._sends = Sends(console)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    def on_upgrade(self, upgrade: Upgrade) -> None:
        """Take a handshake."""
        self._spawn(self._connect(upgrade))

    def on_request(self, request: Request, respond: Respond) -> None:
        """Take an HTTP request that is not a handshake."""
        call = self._management.parse(request)
        if call is None:
            self._spawn(self._page(request, respond))
        elif (fault := self._management.fault(call)) is None:
            answer = self._management.answer(call)
            if request.method == "POST":
                self._sends.posted(request.body, answer.status)
            respond(answer)
        else:
            self._spawn(self._management.misbehave(fault, call, respond))

    async def stop(self) -> None:
        """Close every connection (1001) and give up what is under way, without waiting for clients."""
        self._stopping = True
        self._sweeper.cancel()
        for connection in list(self.connections.values()):
            connection.close(1001, "Going away")
        await asyncio.sleep(0.02)  # lets the close frames leave before the connections are cut
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self, connection_id: str) -> None:
        """Cut a connection without a close frame, as a lost network does; one that has ended stays so."""
        connection = self.connections.get(connection_id)
        if connection is not None and connection.websocket is not None:
            connection.websocket.abort()

    async def _connect(self, upgrade: Upgrade) -> None:
        started = time.perf_counter()
        request = upgrade.request
        connection = OpenConnection(new_id(), request, on_message=self._on_message, on_close=self._on_close)
        connection_id, why, left = connection.connection_id, "", False
        try:
            subprotocol = await self._handshake.decide(connection, upgrade)
        except ProblemError as problem:
            body = {"message": problem.message, "connectionId": connection_id, "requestId": new_id()}
            status, why = problem.status, problem.reason
            upgrade.refuse(Response.json(body, status=status) if problem.message else Response(status))
            path = "" if request.path in self._handshake.paths else f" {client_text(request.path)}"
            detail = f"{status}{path}"
            why = why or "refused"
        else:
            connection.opened = connection.last_active = time.monotonic()
            # Known before the 101 leaves, so that a client's first message finds it.
            self.connections[connection_id] = connection
            connection.websocket = upgrade.accept(connection, subprotocol)
            left = connection.websocket is None
            detail = "the client left" if left else "200"
        self._console.event("$connect", connection_id, detail, started=started, error=why)
        if left:
            self.connections.pop(connection_id, None)
            await self._disconnect(connection, 1006, "Connection Closed Abnormally")

    def _on_message(self, connection: OpenConnection, text: str) -> None:
        self._spawn(self._messages.run(connection, text))

    def _on_close(self, connection: OpenConnection, code: int, reason: str) -> None:
        self.connections.pop(connection.connection_id, None)
        if not self._stopping:
            self._spawn(self._disconnect(connection, code, reason))

    async def _disconnect(self, connection: OpenConnection, code: int, reason: str) -> None:
        started = time.perf_counter()
        route = self._on_disconnect
        why, detail = "", f"{code} {client_text(reason)}".rstrip()
        if self._faults.withhold_disconnect:
            why = "fault: withhold_disconnect"
        elif route is not None and not isinstance(route.target, Mock):
            try:
                await self._invoke(route.target, self._events.disconnect(connection, code, reason))
            except FunctionError as failure:
                why = str(failure)
        self._console.event("$disconnect", connection.connection_id, detail, started=started, error=why)

    async def _page(self, request: Request, respond: Respond) -> None:
        response = await self._pages(request) if self._pages is not None else None
        respond(response or Response.json({"message": "Not Found"}, status=404))

    async def _sweep(self) -> None:
        interval = min(1.0, self._idle_timeout / 20)
        while True:
            await asyncio.sleep(interval)
            now = time.monotonic()
            for connection in list(self.connections.values()):
                if (
                    now - connection.last_active > self._idle_timeout
                    or now - connection.opened > self._max_duration
                ):
                    connection.close(1001, "Going away")

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._console.problem(f"the stand-in itself failed: {problem!r}")
