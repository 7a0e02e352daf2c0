"""The process that is MiniStack: `python -m roomcast_dev.local.ministack.server FD ...`."""

from __future__ import annotations

import asyncio
import copy
import functools
import os
import signal
import socket
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from roomcast_dev.local.environment import CREDENTIALS
from roomcast_dev.local.errors import MiniStackError
from roomcast_dev.local.template.model import REGION
from roomcast_dev.local.wire.http import Listener
from roomcast_dev.local.wire.messages import Request, Respond, Response


def _serve(descriptors: Sequence[int]) -> None:
    """Serve MiniStack's application on listening sockets until our stdin ends."""
    import threading

    import uvloop
    from ministack.app import app
    from ministack.services import dynamodb

    speed_up(dynamodb)

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_Application(app, dynamodb).serve([socket.socket(fileno=fd) for fd in descriptors]))


def speed_up(dynamodb: Any) -> None:
    """Spare MiniStack's DynamoDB what it reads anew for each item of a Query: conditions and projections.

    It also copies an item four times for each update, with a `deepcopy` that is made for any object at all.
    """
    dynamodb.copy = types.SimpleNamespace(deepcopy=_copied)
    for name in ("_tokenize", "_condition_syntax_error"):
        setattr(dynamodb, name, functools.lru_cache(1000)(getattr(dynamodb, name)))
    project, plans = dynamodb._project_item, dict[tuple[object, ...], list[str]]()

    def project_item(item: dict[str, Any], expression: str | None, names: dict[str, str] | None) -> Any:
        if not expression or "." in expression or "[" in expression:
            return project(item, expression, names)
        names = names or {}
        key = (expression, *names.items())
        if key not in plans:
            project({}, expression, names)  # raises what it has against it
            paths = [path.strip() for path in expression.split(",")]
            plans[key] = [names.get(path, path) for path in paths if path]
        return {name: item[name] for name in plans[key] if name in item}

    dynamodb._project_item = project_item


def _copied(value: Any) -> Any:
    """A deep copy of what comes out of JSON, and of anything else."""
    kind = type(value)
    if kind is str:
        return value
    if kind is dict:
        return {key: _copied(one) for key, one in value.items()}
    if kind is list:
        return [_copied(one) for one in value]
    return copy.deepcopy(value)


class _Application:
    """Serves MiniStack's ASGI application with our own HTTP server.

    Half of what a small DynamoDB call costs in MiniStack is the server in front of it (hypercorn), and each
    event of a function makes such calls. A third of the rest is finding out which service is asked, by which
    account and where: DynamoDB is asked directly by whoever has the local run's own key.

    Args:
        app: MiniStack's.
        dynamodb: its module of DynamoDB.
    """

    def __init__(self, app: Any, dynamodb: Any) -> None:
        self._app = app
        self._dynamodb = dynamodb
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Start the application, say so, and serve for ever."""
        started = asyncio.Event()
        lifespan = asyncio.create_task(self._lifespan(started))
        await started.wait()
        await Listener(self._on_request).start(sockets)
        os.write(1, b"ready\n")
        await lifespan
        await asyncio.Event().wait()

    async def _lifespan(self, started: asyncio.Event) -> None:
        messages = [{"type": "lifespan.startup"}]

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else await asyncio.get_running_loop().create_future()

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed":
                raise MiniStackError(str(message.get("message")))
            started.set()

        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)

    def _on_request(self, request: Request, respond: Respond) -> None:
        answer = self._answer_dynamodb if _is_for_dynamodb(request) else self._answer
        task = asyncio.get_running_loop().create_task(answer(request, respond))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_dynamodb(self, request: Request, respond: Respond) -> None:
        try:
            status, headers, body = await self._dynamodb.handle_request(
                request.method, request.path, request.headers, request.body, {}
            )
        except Exception:
            respond(Response.json({"__type": "InternalServerError"}, status=500))
            raise
        respond(Response(status, body, {name.lower(): value for name, value in headers.items()}))

    async def _answer(self, request: Request, respond: Respond) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(request.path),
            "raw_path": request.path.encode(),
            "query_string": request.query_string.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()],
            "client": (request.source_ip, 0),
            "server": ("127.0.0.1", 0),
        }
        messages = [{"type": "http.request", "body": request.body, "more_body": False}]
        head: dict[str, Any] = {"status": 500, "headers": []}
        body: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else await asyncio.get_running_loop().create_future()

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
            elif message["type"] == "http.response.body":
                body.append(message.get("body", b""))
                if not message.get("more_body"):
                    respond(Response(head["status"], b"".join(body), _headers(head["headers"])))

        await self._app(scope, receive, send)
        # MiniStack's long polling looks ten times a second; real SQS answers at once. So whoever polls for us
        # is told of each message sent, and asks then.
        if request.headers.get("x-amz-target", "").startswith("AmazonSQS.SendMessage"):
            os.write(1, b"sent\n")


def _is_for_dynamodb(request: Request) -> bool:
    """Whether it is a call of DynamoDB with the local run's own key, in its region."""
    scope = request.headers.get("authorization", "").partition(" Credential=")[2].split("/", 4)
    return scope[:1] + scope[2:4] == [CREDENTIALS["AWS_ACCESS_KEY_ID"], REGION, "dynamodb"]


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}
    headers.pop("content-length", None)  # the server counts
    headers.pop("transfer-encoding", None)
    return headers


if __name__ == "__main__":
    _serve([int(number) for number in sys.argv[1:]])
