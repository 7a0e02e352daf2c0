"""What the pytest fixture `websocket_stack` is made of: the running stack, its clients, its faults.

`run_stack` is the way in for a fixture or a script of your own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import uvloop
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

from roomcast_dev.local.aws import LocalSession
from roomcast_dev.local.faults import Faults
from roomcast_dev.local.run import local_environment
from roomcast_dev.local.stack import LocalRun, Project

_T = TypeVar("_T")


class Client:
    """One WebSocket client. Everything it receives is kept until a `wait_for` takes it.

    Args:
        url: where to connect, with the query.
        options: of `websockets.sync.client.connect` (`subprotocols`, `additional_headers`, ...).
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._open = contextlib.ExitStack()
        self.websocket: ClientConnection = self._open.enter_context(
            open_websocket(
                url,
                **{"compression": None, "open_timeout": 20, "close_timeout": 3, "proxy": None, **options},
            )
        )
        self.received: list[dict[str, Any]] = []
        """Messages that no `wait_for` has taken."""

    def send(self, action: str, **fields: object) -> None:
        """Send an action."""
        self.websocket.send(json.dumps({"action": action, **fields}))

    def wait_for(self, event: str, timeout: float = 5.0) -> dict[str, Any]:
        """Return the first message with this event, whole.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it did not come; says what came instead.
        """
        deadline = time.monotonic() + timeout
        while True:
            for message in self.received:
                if message.get("event") == event:
                    self.received.remove(message)
                    return message
            try:
                self.received.append(self.receive(deadline - time.monotonic()))
            except TimeoutError:
                came = [message.get("event", message) for message in self.received]
                raise TimeoutError(f"no event {event!r} within {timeout} s, but {came}") from None

    def receive(self, timeout: float = 5.0) -> dict[str, Any]:
        """Return the next message that comes, decoded; `TimeoutError` if none does."""
        message: dict[str, Any] = json.loads(self.websocket.recv(timeout=max(timeout, 0)))
        return message

    def expect_silence(self, seconds: float = 0.3) -> None:
        """Fail if a message comes within this time, or has come."""
        with contextlib.suppress(TimeoutError):
            self.received.append(self.receive(seconds))
        if self.received:
            raise AssertionError(f"received {self.received}")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close as a browser does."""
        self.websocket.close(code, reason)
        self._open.close()

    def wait_closed(self, timeout: float = 5.0) -> tuple[int, str]:
        """Wait until the other side closes and return the code and the reason."""
        try:
            while True:
                self.websocket.recv(timeout=timeout)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


class WebSocketStack:
    """The running stack, as a test sees it."""

    def __init__(self, stack: LocalRun, environment: Mapping[str, str], thread: StackThread) -> None:
        self.environment = environment
        """What a backend's `.env` would hold."""
        self.faults: Faults = stack.faults
        """Switches to make it misbehave; cleared after each test."""
        self.stack = stack
        self._thread = thread
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.stack.url

    @property
    def service(self) -> Any:
        """A `WebSocketService` of this stack."""
        from roomcast import WebSocketService
        from roomcast.settings import Settings

        session = LocalSession(self.stack.ministack.url)
        return WebSocketService.from_settings(Settings.from_env(self.environment), session=session)

    def token(self, user_id: str, *, ttl: float = 3600.0, **claims: object) -> str:
        """Make a token that the stack accepts.

        Args:
            ttl: seconds until it expires; negative for one that has.
            claims: `role`, `name`, `email` and whatever else.
        """
        import jwt

        now = int(time.time())
        payload = {"userId": user_id, "iat": now, "exp": now + int(ttl), **claims}
        return jwt.encode(payload, self.environment["JWT_SECRET"], algorithm="HS256")

    def connect(
        self,
        user_id: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> Client:
        """Connect a client; it is closed after the test.

        Args:
            user_id: whose token to send; `None` sends none.
            query: further query parameters.
            options: of `websockets.sync.client.connect` (`subprotocols`, `additional_headers`, ...).
            claims: of the token (`role="admin"`).

        Raises:
            websockets.exceptions.InvalidStatus: refused; `.response.status_code` says how.
        """
        parameters = dict(query or {})
        if user_id is not None:
            parameters["token"] = self.token(user_id, **claims)
        url = f"{self.url}?{urlencode(parameters)}" if parameters else self.url
        client = Client(url, **(options or {}))
        self._clients.append(client)
        return client

    def connection_ids(self) -> list[str]:
        """The connections that are open now, oldest first."""
        return list(self.stack.gateway.connections)

    def drop(self, connection_id: str) -> None:
        """Cut a connection without a close frame, as a lost network does; one that has ended stays so."""
        self.call(_done(self.stack.gateway.drop, connection_id))

    def client(self, service: str) -> Any:
        """A botocore client of the stack's DynamoDB, SQS or Secrets Manager."""
        return self.stack.ministack.client(service)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Every item of a table, in DynamoDB's form."""
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=table)
        return [item for page in pages for item in page["Items"]]

    def eventually(self, condition: Callable[[], _T], timeout: float = 5.0) -> _T:
        """Wait until `condition()` is true and return its value; `TimeoutError` otherwise."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {timeout} s: last value {value!r}")
            time.sleep(0.02)
        return value

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the stack's own event loop."""
        return self._thread.call(coroutine)

    def reset(self) -> None:
        """Close every client, wait until the stack has noticed, and clear the faults."""
        self.faults.clear()
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.eventually(lambda: not self.stack.gateway.connections)


async def _done(function: Callable[[str], None], argument: str) -> None:
    function(argument)


class StackThread:
    """Runs the local run on an event loop of its own, in a thread."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=[self._end], name="local run", daemon=True
        )
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=300)

    def stop(self) -> None:
        """End the loop and the thread."""
        self._loop.call_soon_threadsafe(self._end.set_result, None)
        self._thread.join()
        self._loop.close()


async def _start(project: Project, settings: Mapping[str, Any]) -> tuple[LocalRun, dict[str, str]]:
    stack = LocalRun(project, **settings)
    await stack.start()
    environment = await local_environment(stack)
    await stack.serve()
    return stack, environment


@contextlib.contextmanager
def run_stack(project: Project, **settings: Any) -> Iterator[WebSocketStack]:
    """Run a stack while the `with` block lasts: for fixtures and tests that want one of their own.

    Args:
        project: what to run.
        settings: arguments of `LocalRun` (`time_scale=60`, `quotas=0.01`, `console=...`).
    """
    thread = StackThread()
    try:
        stack, environment = thread.call(_start(project, settings))
        try:
            yield WebSocketStack(stack, environment, thread)
        finally:
            thread.call(stack.stop())
    finally:
        thread.stop()
