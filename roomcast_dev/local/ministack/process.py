"""MiniStack, which plays DynamoDB, SQS and Secrets Manager: its process, and the resources it is given.

Run as `python -m roomcast_dev.local.ministack.process` it *is* that process; the class `MiniStack` starts it and
talks to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from roomcast_dev.local.errors import MiniStackError
from roomcast_dev.local.template.reader import REGION
from roomcast_dev.local.wire.http import Listener, Reply
from roomcast_dev.local.wire.messages import Request, Response

START_TIMEOUT = 20.0  # ours: seconds; it takes half a second on a quiet machine
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class MiniStack:
    """One MiniStack on a free loopback port, with nothing kept from an earlier run."""

    def __init__(self) -> None:
        self.url = ""
        self.on_sent: Callable[[], None] = lambda: None
        """Called when a message may have come into a queue."""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._log: list[str] = []

    async def start(self) -> None:
        """Start the process and wait until it takes requests.

        Raises:
            MiniStackError: it ended or did not answer.
        """
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(1024)
        port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        kept = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR") if k in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roomcast_dev.local.ministack.process",
            str(sock.fileno()),
            pass_fds=[sock.fileno()],
            stdin=asyncio.subprocess.PIPE,  # its end tells the process that we are gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            cwd=Path(__file__).parents[3],
            env={**kept, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"},
        )
        sock.close()
        self._reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait_for(self._ready.wait(), START_TIMEOUT)
        except TimeoutError:
            raise MiniStackError(f"MiniStack did not start within {START_TIMEOUT:.0f} s") from None
        if self._process.returncode is not None or self._reader.done():
            raise MiniStackError(f"MiniStack ended while it started: {self.last_words()}")

    async def wait(self) -> int:
        """Wait for the process to end by itself and return its exit status."""
        return await self._process.wait() if self._process is not None else 0

    async def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()  # it keeps nothing, so there is nothing to end gently
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    def last_words(self) -> str:
        """The last line it printed."""
        return self._log[-1] if self._log else "no output"

    async def _read(self) -> None:
        stream = self._process.stdout if self._process is not None else None
        while stream is not None and (line := await stream.readline()):
            if line == b"ready\n":
                self._ready.set()
            elif line == b"sent\n":
                self.on_sent()
            elif text := line.decode(errors="replace").strip():
                self._log = [*self._log[-50:], text]
        self._ready.set()

    def client(self, service: str) -> Any:
        """A boto3 client of one of its services."""
        import boto3  # a third of a second, that need not stand before the start of the processes
        from botocore.config import Config

        session: Any = boto3.Session(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
        return session.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
        )

    def create(self, stack_name: str, template: Mapping[str, Any]) -> dict[str, str]:
        """Create the template's resources and return its outputs. Blocks: run it in a thread.

        Raises:
            MiniStackError: it refused the template.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        cloudformation = self.client("cloudformation")
        try:
            cloudformation.create_stack(StackName=stack_name, TemplateBody=json.dumps(template))
            cloudformation.get_waiter("stack_create_complete").wait(
                StackName=stack_name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 1000}
            )
            stack = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
        except (ClientError, BotoCoreError) as error:
            raise MiniStackError(f"MiniStack refused the template: {error}") from error
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def put_secret(self, name: str, value: str) -> None:
        """Set a secret's value. Blocks: run it in a thread."""
        self.client("secretsmanager").put_secret_value(SecretId=name, SecretString=value)


def _serve(fd: int) -> None:
    """Serve MiniStack's application on the listening socket `fd` until our stdin ends."""
    import threading

    import uvloop
    from ministack.app import app
    from ministack.services import dynamodb

    # It reads a condition anew for each item that a Query looks at: half of what one costs.
    for name in ("_tokenize", "_condition_syntax_error"):
        setattr(dynamodb, name, functools.lru_cache(1000)(getattr(dynamodb, name)))

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_Application(app).serve(socket.socket(fileno=fd)))


class _Application:
    """MiniStack's ASGI application behind our own HTTP server.

    Half of what a small DynamoDB call costs in MiniStack is the server in front of it (hypercorn), and each
    event of a function makes such calls.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, sock: socket.socket) -> None:
        """Start the application, say so, and serve for ever."""
        started = asyncio.Event()
        lifespan = asyncio.create_task(self._lifespan(started))
        await started.wait()
        await Listener(self._on_request).start([sock])
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

    def _on_request(self, request: Request, reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(self._respond(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, request: Request, reply: Reply) -> None:
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
                    reply(Response(head["status"], b"".join(body), _headers(head["headers"])))

        await self._app(scope, receive, send)
        # MiniStack's long polling looks ten times a second; real SQS answers at once. So whoever polls for us
        # is told of each message sent, and asks then.
        if request.headers.get("x-amz-target", "").startswith("AmazonSQS.SendMessage"):
            os.write(1, b"sent\n")


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}
    headers.pop("content-length", None)  # the server counts
    headers.pop("transfer-encoding", None)
    return headers


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
