"""MiniStack, which plays DynamoDB, SQS and Secrets Manager: its process, and the resources it is given.

Run as `python -m local.ministack` it *is* that process; the class `MiniStack` starts it and talks to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local.errors import MiniStackError
from local.template import REGION

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
            "local.ministack",
            str(sock.fileno()),
            pass_fds=[sock.fileno()],
            stdin=asyncio.subprocess.PIPE,  # its end tells the process that we are gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            cwd=Path(__file__).parent.parent,
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

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        # MiniStack's long polling looks ten times a second; real SQS answers at once. So whoever polls
        # for us is told of each message sent, and asks then.
        await app(scope, receive, send)
        if scope["type"] == "lifespan":
            return
        target = next((v for k, v in scope["headers"] if k == b"x-amz-target"), b"")
        if target.startswith(b"AmazonSQS.SendMessage"):
            os.write(1, b"sent\n")

    config = Config()
    config.bind = [f"fd://{fd}"]
    config.keep_alive_timeout = 75
    config.loglevel = "ERROR"

    async def main() -> None:
        os.write(1, b"ready\n")
        await serve(watched, config)

    asyncio.run(main())


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
