"""`roomcast dev`: the stack of the CDK app in this directory at ws://localhost:3001, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shlex
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from roomcast_dev.local import demo, handover
from roomcast_dev.local.console import Console
from roomcast_dev.local.environment import CREDENTIALS
from roomcast_dev.local.errors import LocalRunError, PortInUseError, TemplateError
from roomcast_dev.local.project import project_in
from roomcast_dev.local.stack import LocalRun, Project
from roomcast_dev.local.template.model import REGION
from roomcast_dev.local.wire.sockets import listen
from roomcast_dev.outputs import BROWSER_URLS, KEYS, of_backend

ENV_FILE = Path(".env.local")
MAX_OPEN_FILES = 65_536  # ours: each client is an open file, and shells allow 256 or 1,024 of them


@dataclass(frozen=True, slots=True)
class Options:
    """What `roomcast dev` may be told.

    Args:
        port: where clients connect, on loopback.
        host: one more address to listen on (`0.0.0.0`: all), for other machines and containers.
        ministack_port: where MiniStack listens; 0 takes a free port, `None` the one after `port`, so that it
            is the same after a restart, or a free one where that is taken.
        env_file: gets the settings for backends and commands. A `JWT_SECRET` in it is kept, so that tokens
            outlive a restart.
        cache: where synthesized assemblies are kept; `None`: `build/local/` in the project.
        time_scale: how many times faster API Gateway's limits of 10 minutes and 2 hours run.
        quotas: share of an AWS account's quotas to enforce (1.0: as on a new account); `None`: none.
        quiet: show problems only.
    """

    port: int = 3001
    host: str | None = None
    ministack_port: int | None = None
    env_file: Path = ENV_FILE
    cache: Path | None = None
    time_scale: float = 1.0
    quotas: float | None = None
    quiet: bool = False


def run(options: Options) -> int:
    """Run the stage `local` until Ctrl-C, SIGTERM or SIGHUP; returns the exit status."""
    _open_standard_descriptors()
    _allow_many_open_files()
    try:
        project = replace(project_in(Path.cwd()), cache=options.cache)
    except LocalRunError as problem:
        Console(quiet=options.quiet).problem(f"roomcast dev: {problem}")
        return 1
    return uvloop.run(_run(project, options))


async def _run(project: Project, options: Options) -> int:
    started = time.perf_counter()
    console = Console(quiet=options.quiet)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it: that choice stands
            loop.add_signal_handler(number, stop.set)
    stack = LocalRun(
        project,
        port=options.port,
        host=options.host,
        ministack_port=_ministack_port(options),
        console=console,
        time_scale=options.time_scale,
        quotas=options.quotas,
    )
    stopped = loop.create_task(stop.wait())
    starting = loop.create_task(_start(stack, options.env_file))
    try:
        await _first(starting, stopped)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return 130
        await starting
        _greet(console, stack, options, time.perf_counter() - started)
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


def _ministack_port(options: Options) -> int:
    if options.ministack_port is not None:
        return options.ministack_port
    port = options.port + 1
    try:
        for sock in listen(port, options.host):
            sock.close()
    except (PortInUseError, OverflowError):
        return 0
    return port


def _open_standard_descriptors() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed, so that no socket gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _allow_many_open_files() -> None:
    """Raise the soft limit on open files towards `MAX_OPEN_FILES`, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit that it does not report
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _start(stack: LocalRun, env_file: Path) -> None:
    await asyncio.to_thread(handover.refuse_if_taken, env_file)
    await stack.start()
    environment = await local_environment(stack, env_file)
    handover.write(env_file, environment)
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
    try:
        outputs = of_backend(stack.outputs)
    except ValueError as error:
        raise TemplateError(f"the stack {stack.template.stack_name}: {error}") from None
    if not {"ConnectionsTableName", "RoomsTableName", "JwtSecretName"} <= outputs.keys():
        return {"WEBSOCKET_API_ENDPOINT": stack.url, **aws}
    secret = handover.secret(env_file)
    await asyncio.to_thread(stack.ministack.put_secret, outputs["JwtSecretName"], secret)
    environment = {
        "WEBSOCKET_API_ENDPOINT": stack.url,
        **dict.fromkeys(BROWSER_URLS, f"ws://{stack.address}"),
        "WEBSOCKET_CONNECTIONS_TABLE": outputs["ConnectionsTableName"],
        "WEBSOCKET_ROOMS_TABLE": outputs["RoomsTableName"],
    }
    for output in ("FanOutQueueUrl", "HistoryTableName", "Rooms", "ServerEvents"):
        if value := outputs.get(output):
            environment[KEYS[output]] = value
    return {**environment, "JWT_SECRET": secret, **aws}


def _greet(console: Console, stack: LocalRun, options: Options, seconds: float) -> None:
    memory = ", ".join(
        f"{f.name.rsplit('-', 1)[-1]} {f.memory} MB {f.timeout:.0f} s"
        for f in stack.template.functions.values()
    )
    also = f"   and on {options.host}" if options.host else ""
    command = typed_here(sys.argv[0])
    where = "" if options.env_file == ENV_FILE else f" --env-file {shlex.quote(str(options.env_file))}"
    console.note(
        f"""
  Realtime backend on this machine, ready in {seconds:.1f} s. Ctrl-C ends it.

    demo       http://{stack.address}/
    browser    ws://{stack.address}/?token=...{also}
    callback   {stack.callback_url}/@connections/...
    AWS        {stack.ministack.url} is DynamoDB, SQS and Secrets Manager
    settings   {options.env_file}
    functions  {memory}

  Open the demo and enter as Ada. Then, in another shell, send her a message:

    {command} send user ada hello '{{"text": "hi"}}'{where}
"""
    )


def typed_here(program: str) -> str:
    """How this command is written in a shell in this directory: a name that is found there, or a path."""
    path = Path(program)
    if shutil.which(path.name) is not None:
        return path.name
    with contextlib.suppress(ValueError):
        path = path.absolute().relative_to(Path.cwd())
    return shlex.quote(str(path))


if __name__ == "__main__":
    sys.exit(run(Options()))
