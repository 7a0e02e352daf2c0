"""Starts MiniStack in a process of its own and gives it the template's resources."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from roomcast_dev.local.environment import child_environment
from roomcast_dev.local.errors import MiniStackError
from roomcast_dev.local.wire.sockets import listen

START_TIMEOUT = 20.0  # ours: seconds; it takes half a second on a quiet machine


class MiniStack:
    """One MiniStack, with nothing kept from an earlier run.

    Args:
        port: on loopback; 0 takes one that is free.
        host: one more address to listen on.
    """

    def __init__(self, port: int = 0, host: str | None = None) -> None:
        self._port = port
        self._host = host
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
        sockets = listen(self._port, self._host, "--ministack-port")
        port = sockets[0].getsockname()[1]
        descriptors = [sock.fileno() for sock in sockets]
        self.url = f"http://127.0.0.1:{port}"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roomcast_dev.local.ministack.server",
            *map(str, descriptors),
            pass_fds=descriptors,
            stdin=asyncio.subprocess.PIPE,  # when it closes, the process knows that we are gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            cwd=Path(__file__).parents[3],
            env={
                **child_environment(),
                "GATEWAY_PORT": str(port),
                "BIND_HOST": "127.0.0.1",
                "LOG_LEVEL": "ERROR",
            },
        )
        for sock in sockets:
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
        """Make a botocore client of one of its services."""
        # The imports take a fifth of a second, which need not pass before the processes start.
        from botocore.config import Config

        from roomcast_dev.local.aws import LocalSession

        config = Config(retries={"total_max_attempts": 1}, inject_host_prefix=False)
        return LocalSession(self.url).create_client(service, config=config)

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
