"""`roomcast dev` and the commands in the shells, terminals and folders that people have."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roomcast_dev.testing import WebSocketStack
from tests.e2e.test_dev import COMMAND, Dev, free_port
from tests.integration.local.test_environment import HOSTILE


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **options: Any) -> Iterator[Dev]:
    dev = Dev(folder, *arguments, **options)
    try:
        dev.wait_ready()
        yield dev
    finally:
        dev.process.kill()
        dev.process.wait()


def command(env_file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND[:-1], *arguments, "--env-file", str(env_file)],
        capture_output=True,
        text=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        timeout=30,
        env={**os.environ, **environment},
    )


def test_it_starts_and_serves_in_a_shell_that_is_set_up_for_other_work(tmp_path: Path) -> None:
    """Proxies, profiles, endpoints; an ASCII terminal; no stdin; 64 open files."""

    def first() -> None:
        os.close(0)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

    with running(tmp_path, first=first, **HOSTILE) as dev, contextlib.ExitStack() as clients:
        tokens = [
            command(dev.env_file, "token", "--user", f"u{n}", "--name", "zoë名前").stdout.strip()
            for n in range(5)
        ]
        for number in range(80):
            client = clients.enter_context(dev.connect(tokens[number % 5]))  # a user may have 20
        sent = command(dev.env_file, "send", "user", "u4", "hello", '"名前"', **HOSTILE)
        assert sent.returncode == 0, sent.stderr
        assert "名前" in str(client.recv(timeout=10))


def nowhere() -> None:
    for number in (0, 1, 2):
        os.close(number)


def full() -> None:
    disk = os.open("/dev/full", os.O_WRONLY)
    for number in (1, 2):
        os.dup2(disk, number)


@pytest.mark.parametrize("output", [nowhere, full])
def test_it_runs_where_nothing_can_be_printed(tmp_path: Path, output: Callable[[], None]) -> None:
    dev = Dev(tmp_path, first=output)
    try:
        deadline = time.monotonic() + 50
        while (made := command(dev.env_file, "inspect")).returncode:
            assert time.monotonic() < deadline, made.stderr
            assert dev.process.poll() is None
        with dev.connect(dev.token()) as client:
            client.send('{"action": "ping"}')
            assert "pong" in str(client.recv(timeout=10))
        assert dev.process.poll() is None
    finally:
        dev.process.kill()
        dev.process.wait()


def test_a_second_stage_does_not_take_over_the_file_of_the_first(tmp_path: Path) -> None:
    with running(tmp_path) as dev:
        second = command(dev.env_file, "dev", "--port", str(free_port()))
        assert (second.returncode, second.stdout.splitlines()) == (
            1,
            [
                f"roomcast dev: {dev.env_file} belongs to the stage that runs at "
                f"ws://localhost:{dev.port}/local: stop that one, or name another file with --env-file"
            ],
        )
        assert command(dev.env_file, "inspect").returncode == 0
    started = time.monotonic()
    stale = command(dev.env_file, "inspect")
    assert stale.returncode == 1
    assert "make dev" in stale.stderr
    assert time.monotonic() - started < 3  # a second, and what a busy machine adds
    with running(tmp_path):  # and the stale file does not prevent it
        pass


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_the_shell_ignores_for_it_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    """As `nohup roomcast dev &`."""
    with running(tmp_path, first=lambda: signal.signal(number, signal.SIG_IGN)) as dev:
        dev.process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            dev.process.wait(timeout=1)
        dev.process.send_signal(signal.SIGTERM)
        assert dev.process.wait(timeout=10) == 0


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp932", "ascii"])
def test_commands_show_any_text_on_any_terminal(
    websocket_stack: WebSocketStack, env_file: Path, encoding: str
) -> None:
    websocket_stack.connect("u1", name="Zoë 名前 🎉")
    shown = command(env_file, "inspect", PYTHONIOENCODING=encoding)
    assert shown.returncode == 0, shown.stderr
    assert "u1" in shown.stdout


@pytest.mark.parametrize(
    "name",
    ["AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "HTTP_PROXY"],
)
def test_commands_reach_the_local_stage_whatever_the_shell_is_set_to(env_file: Path, name: str) -> None:
    done = command(env_file, "send", "user", "nobody", "hello", "1", **{name: HOSTILE[name]})
    assert done.returncode == 0, done.stderr
