"""`AsyncWebSocketService`: `WebSocketService` for code that runs on an event loop."""

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from roomcast.app import App
from roomcast.aws_client import waiting
from roomcast.aws_client.credentials import CredentialSource, FrozenCredentials, StaticCredentials
from roomcast.aws_client.http import Answer, Connections
from roomcast.aws_client.loop_http import LoopConnections
from roomcast.names import Role
from roomcast.sending.sender import SendReport
from roomcast.service import WebSocketService
from roomcast.settings import Settings
from roomcast.store.presence import Presence
from roomcast.store.replay import Position, Recovery

try:
    from greenlet import getcurrent, greenlet
except ModuleNotFoundError as error:  # the error of Python would not say which extra has it
    raise ModuleNotFoundError(
        f'AsyncWebSocketService needs {error.name}: pip install "roomcast[async]"', name=error.name
    ) from None

if TYPE_CHECKING:
    import botocore.session

AT_ONCE = 64
"""Calls of one service that run at the same time: as many as the connections to the management API."""

_CREDENTIALS_FOR = 60.0  # s; botocore fetches new ones at least ten minutes before the old ones end
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class AsyncWebSocketService:
    """Send events to the browsers of one stage from an event loop, which goes on meanwhile.

    The methods are those of `WebSocketService`, and so are their arguments, results and errors. The code
    below is the same too: where it would wait for AWS it lets the loop go on, and no call has a thread of its
    own. One thread, the same for all calls, serves the connections to the management API.

    At most `at_once` calls run at the same time; the others wait for their turn, first come, first served. A
    call that is cancelled while it waits has sent nothing. One that is cancelled later ends at once, and like
    a send that raises it may have reached some receivers; repeat it with the same `id`.

    One object is for one event loop. `async with` closes it, or `close` does.

    Where the machine is set up in a way that only botocore knows (proxies, profiles with endpoints, a
    `session`), calls of DynamoDB and SQS run in the loop's default executor, which has a bounded number of
    threads.

    Args:
        service: what is underneath.
        at_once: calls that run at the same time.
    """

    def __init__(self, service: WebSocketService, *, at_once: int = AT_ONCE) -> None:
        self._service = service
        self._turns = asyncio.Semaphore(at_once)
        self._loop = _OnLoop()

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        application: App | None = None,
        at_once: int = AT_ONCE,
    ) -> Self:
        """As `WebSocketService.from_env`."""
        return cls(WebSocketService.from_env(environ, application=application), at_once=at_once)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        session: "botocore.session.Session | None" = None,
        at_once: int = AT_ONCE,
    ) -> Self:
        """As `WebSocketService.from_settings`."""
        return cls(WebSocketService.from_settings(settings, session=session), at_once=at_once)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send_to_user(
        self,
        user_id: str,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """As `WebSocketService.send_to_user`."""
        return await self._run(self._service.send_to_user, user_id, event, data, id=id)

    async def send_to_room(
        self,
        room: str,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """As `WebSocketService.send_to_room`."""
        return await self._run(self._service.send_to_room, room, event, data, id=id)

    async def broadcast(
        self,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """As `WebSocketService.broadcast`."""
        return await self._run(self._service.broadcast, event, data, id=id)

    async def send_to_admins(
        self,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """As `WebSocketService.send_to_admins`."""
        return await self._run(self._service.send_to_admins, event, data, id=id)

    async def send_to_connection(
        self,
        connection_id: str,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """As `WebSocketService.send_to_connection`."""
        return await self._run(self._service.send_to_connection, connection_id, event, data, id=id)

    async def grant_room(self, room: str, user_id: str) -> None:
        """As `WebSocketService.grant_room`."""
        await self._run(self._service.grant_room, room, user_id)

    async def revoke_room(self, room: str, user_id: str) -> None:
        """As `WebSocketService.revoke_room`."""
        await self._run(self._service.revoke_room, room, user_id)

    async def presence(self, room: str, *, probe: bool = False) -> Presence | None:
        """As `WebSocketService.presence`."""
        return await self._run(self._service.presence, room, probe=probe)

    async def online(self, user_ids: Iterable[str]) -> frozenset[str]:
        """As `WebSocketService.online`."""
        return await self._run(self._service.online, user_ids)

    async def position(self, room: str) -> Position | None:
        """As `WebSocketService.position`."""
        return await self._run(self._service.position, room)

    async def history(self, room: str, since: Position | None = None, *, limit: int = 100) -> Recovery | None:
        """As `WebSocketService.history`."""
        return await self._run(self._service.history, room, since, limit=limit)

    async def create_ticket(
        self,
        user_id: str,
        *,
        role: Role = "user",
        name: str = "",
        email: str = "",
        ttl: int = 7200,
    ) -> str:
        """As `WebSocketService.create_ticket`."""
        return await self._run(
            self._service.create_ticket, user_id, role=role, name=name, email=email, ttl=ttl
        )

    async def disconnect_user(self, user_id: str) -> int:
        """As `WebSocketService.disconnect_user`."""
        return await self._run(self._service.disconnect_user, user_id)

    async def revoke_user(self, user_id: str) -> int:
        """As `WebSocketService.revoke_user`."""
        return await self._run(self._service.revoke_user, user_id)

    async def restore_user(self, user_id: str) -> None:
        """As `WebSocketService.restore_user`."""
        await self._run(self._service.restore_user, user_id)

    async def close(self) -> None:
        """Close the connections. A later call opens others."""
        await self._loop.close()
        await asyncio.to_thread(self._service.close)  # it waits for a thread to end

    async def _run(
        self, method: Callable[_Given, _Result], *args: _Given.args, **kwargs: _Given.kwargs
    ) -> _Result:
        async with self._turns:
            return await self._loop.run(functools.partial(method, *args, **kwargs))


class _Blocking(greenlet):  # type: ignore[misc]  # has no types
    """Runs code that waits by `waiting`: where that would block, the coroutine that drives it awaits."""


class _OnLoop(waiting.Waiter):
    """Waits on an event loop, and keeps the connections of that loop."""

    def __init__(self) -> None:
        self._connections: dict[Connections, LoopConnections] = {}
        self._credentials: dict[CredentialSource, tuple[FrozenCredentials, float]] = {}

    async def run(self, function: Callable[[], _Result]) -> _Result:
        """Call a function; each of its waits is awaited here, and an error of the wait is raised in it."""
        context = copy_context()
        context.run(waiting.waiter.set, self)
        code = _Blocking(function)
        code.gr_context = context
        wanted = code.switch()
        while not code.dead:
            try:
                found = await wanted
            except BaseException as error:  # noqa: BLE001  cancellation too: all of it is the function's
                wanted = code.throw(error)
            else:
                wanted = code.switch(found)
        result: _Result = wanted
        return result

    async def close(self) -> None:
        """Close the connections that are idle."""
        for connections in self._connections.values():
            await connections.close()

    def is_here(self) -> bool:
        return isinstance(getcurrent(), _Blocking)

    def sleep(self, seconds: float) -> None:
        _wait(asyncio.sleep(seconds))

    def result(self, future: "Future[_Result]") -> _Result:
        # Not cancelled with its waiter: whoever settles it does not expect that.
        result: _Result = _wait(asyncio.shield(asyncio.wrap_future(future)))
        return result

    def in_thread(self, function: Callable[..., _Result], arguments: Mapping[str, Any]) -> _Result:
        call = functools.partial(function, **arguments)
        result: _Result = _wait(asyncio.get_running_loop().run_in_executor(None, call))
        return result

    def credentials(self, source: CredentialSource) -> FrozenCredentials:
        if isinstance(source, StaticCredentials):
            return source
        frozen, asked = self._credentials.get(source, (None, 0.0))
        if frozen is None or time.monotonic() - asked > _CREDENTIALS_FOR:
            frozen = self.in_thread(source.get_frozen_credentials, {})
            self._credentials[source] = (frozen, time.monotonic())
        return frozen

    def exchange(self, connections: Connections, request: bytes) -> Answer:
        if connections not in self._connections:
            self._connections[connections] = LoopConnections(connections)
        answer: Answer = _wait(self._connections[connections].exchange(request))
        return answer

    def group(self, at_once: int) -> waiting.Group:
        return _Tasks(self, at_once)


class _Tasks(waiting.Group):
    """Functions side by side, each in a task of the loop."""

    def __init__(self, loop: _OnLoop, at_once: int) -> None:
        self._loop = loop
        self._turns = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[Any]] = set()

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if not self._loop.is_here():
            return  # the garbage collector runs anywhere
        _wait(asyncio.gather(*self._tasks, return_exceptions=True))

    def submit(self, function: Callable[[], _Result]) -> "Future[_Result]":
        task: Any = asyncio.get_running_loop().create_task(self._run(function))
        self._tasks.add(task)
        future: Future[_Result] = task  # has what callers use of it
        return future

    async def _run(self, function: Callable[[], _Result]) -> _Result:
        async with self._turns:
            return await self._loop.run(function)

    def first_done(self, running: Iterable["Future[_Result]"]) -> set["Future[_Result]"]:
        done, _ = _wait(asyncio.wait(list(running), return_when=asyncio.FIRST_COMPLETED))
        found: set[Future[_Result]] = done
        return found


def _wait(awaitable: Any) -> Any:
    """Let the coroutine that drives this code await something; its result, or its error."""
    return getcurrent().parent.switch(awaitable)
