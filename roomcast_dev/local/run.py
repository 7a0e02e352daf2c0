"""`roomcast dev`: the stack of the CDK app in this directory at ws://localhost:3001, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from dotenv import dotenv_values

from roomcast.errors import SettingsError
from roomcast.settings import check_secret
from roomcast_dev.local import demo
from roomcast_dev.local.console import Console
from roomcast_dev.local.environment import CREDENTIALS
from roomcast_dev.local.errors import LocalRunError
from roomcast_dev.local.project import project_in
from roomcast_dev.local.stack import LocalRun, Project
from roomcast_dev.local.template.model import REGION


def run(
    port: int = 3001,
    env_file: Path | None = None,
    *,
    time_scale: float = 1.0,
    quotas: float | None = None,
    quiet: bool = False,
) -> int:
    """Run the local stack until Ctrl-C or SIGTERM; returns the exit status.

    Args:
        port: where the gateway listens, on loopback alone.
        env_file: gets the settings for backends and commands, mode 600 (default `.env.local`); an earlier
            `JWT_SECRET` in it is kept, so that tokens outlive a restart.
        time_scale: how many times faster API Gateway's limits of 10 minutes and 2 hours run.
        quotas: share of an AWS account's quotas to enforce (1.0: as on a new account); `None`: none.
        quiet: show problems only.
    """
    try:
        project = project_in(Path.cwd())
    except LocalRunError as problem:
        Console(quiet=quiet).problem(f"roomcast dev: {problem}")
        return 1
    return uvloop.run(_run(project, port, env_file or Path(".env.local"), time_scale, quotas, quiet))


async def _run(
    project: Project, port: int, env_file: Path, time_scale: float, quotas: float | None, quiet: bool
) -> int:
    started = time.perf_counter()
    console = Console(quiet=quiet)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    stack = LocalRun(project, port=port, console=console, time_scale=time_scale, quotas=quotas)
    stopped = loop.create_task(stop.wait())
    starting = loop.create_task(_start(stack, env_file))
    try:
        await _first(starting, stopped)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return 130
        await starting
        _greet(console, stack, env_file, time.perf_counter() - started)
        await _first(stack.failed, stopped)
        if stack.failed.done():
            raise stack.failed.result()
    except LocalRunError as problem:
        console.problem(f"roomcast dev: {problem}")
        return 1
    finally:
        stopped.cancel()
        await stack.stop()
    console.note("Stopped.")
    return 0


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _start(stack: LocalRun, env_file: Path) -> None:
    await stack.start()
    environment = await local_environment(stack, env_file)
    write_env_file(env_file, environment)
    await stack.serve(demo.create(environment) if "JWT_SECRET" in environment else None)


async def local_environment(stack: LocalRun, env_file: Path | None = None) -> dict[str, str]:
    """What a backend needs to reach this stack, as in the env file; sets the secret of the tokens.

    A stack that does not have Roomcast's outputs gives only its address and the way to its AWS services.
    """
    aws = {
        "AWS_ENDPOINT_URL": stack.ministack.url,
        **CREDENTIALS,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,  # the only name that boto3 reads
    }
    outputs = stack.outputs
    if not {"ConnectionsTableName", "RoomsTableName", "JwtSecretName"} <= outputs.keys():
        return {"WEBSOCKET_API_ENDPOINT": stack.url, **aws}
    kept = dotenv_values(env_file).get("JWT_SECRET") if env_file is not None and env_file.exists() else None
    try:
        secret = check_secret("JWT_SECRET", kept) if kept else secrets.token_urlsafe(48)
    except SettingsError as problem:
        raise LocalRunError(f"{env_file}: {problem}") from problem
    await asyncio.to_thread(stack.ministack.put_secret, outputs["JwtSecretName"], secret)
    environment = {
        "WEBSOCKET_API_ENDPOINT": stack.url,
        "REACT_APP_WEBSOCKET_URL": f"ws://{stack.address}",
        "WEBSOCKET_CONNECTIONS_TABLE": outputs["ConnectionsTableName"],
        "WEBSOCKET_ROOMS_TABLE": outputs["RoomsTableName"],
    }
    if queue := outputs.get("FanOutQueueUrl"):
        environment["WEBSOCKET_FANOUT_QUEUE_URL"] = queue
    return {**environment, "JWT_SECRET": secret, **aws}


def write_env_file(path: Path, environment: dict[str, str]) -> None:
    """Write `environment` whole or not at all, readable by its owner alone."""
    lines = ["# Written by `roomcast dev`; the stack that it tells of runs while that command does."]
    lines += [f"{name}={value}" for name, value in environment.items()]
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    temporary.replace(path)


def _greet(console: Console, stack: LocalRun, env_file: Path, seconds: float) -> None:
    memory = ", ".join(
        f"{f.name.rsplit('-', 1)[-1]} {f.memory} MB {f.timeout:.0f} s"
        for f in stack.template.functions.values()
    )
    console.note(
        f"""
  Realtime backend on this machine, ready in {seconds:.1f} s. Ctrl-C ends it.

    demo       http://{stack.address}/
    browser    ws://{stack.address}/?token=...
    callback   {stack.callback_url}/@connections/...
    settings   {env_file}
    functions  {memory}

  A token:     roomcast token --user u1 --role admin
  A message:   roomcast send user u1 hello '{{"text": "hi"}}'
"""
    )


if __name__ == "__main__":
    sys.exit(run())
