"""`roomcast dev` as a process: how it starts, what it says when it cannot, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from dotenv import dotenv_values
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from roomcast_dev.local.run import typed_here

COMMAND = [sys.executable, "-c", "from roomcast_dev.cli.main import main; main()", "dev"]


class Dev:
    """One `roomcast dev`."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        first: Callable[[], object] = lambda: None,
        **environment: str,
    ) -> None:
        """Start it; `first` runs in the new process before the command does."""
        self.env_file = folder / ".env.local"
        self.log = folder / "log"
        self.port = free_port()
        options = ["--port", str(self.port), "--env-file", str(self.env_file), *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=first,
            )

    def wait_ready(self) -> None:
        """Wait until it says so."""
        deadline = time.monotonic() + 50
        while "ready in" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def family(self) -> set[int]:
        """The process and all its descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                except (OSError, IndexError):
                    continue  # it ended meanwhile
                children.setdefault(parent, []).append(int(entry.name))
        found, queue = set(), [self.process.pid]
        while queue:
            pid = queue.pop()
            found.add(pid)
            queue += children.get(pid, [])
        return found

    def token(self) -> str:
        done = subprocess.run(
            [*COMMAND[:-1], "token", "--user", "u1", "--env-file", str(self.env_file)],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def connect(self, token: str) -> Any:
        return connect(f"ws://localhost:{self.port}/?token={token}", compression=None, open_timeout=10)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that still run; a zombie does not."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    running = Dev(tmp_path)
    try:
        running.wait_ready()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_it_writes_the_env_file_for_its_owner_alone(dev: Dev) -> None:
    assert stat.S_IMODE(dev.env_file.stat().st_mode) == 0o600
    settings = dotenv_values(dev.env_file)
    assert settings["WEBSOCKET_API_ENDPOINT"] == f"ws://localhost:{dev.port}/local"
    for framework in ("REACT_APP", "VITE", "NEXT_PUBLIC"):
        assert settings[f"{framework}_WEBSOCKET_URL"] == f"ws://localhost:{dev.port}"
    assert set(settings) >= {
        "WEBSOCKET_CONNECTIONS_TABLE",
        "WEBSOCKET_ROOMS_TABLE",
        "JWT_SECRET",
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_within_three_seconds_and_leaves_no_process(dev: Dev, number: signal.Signals) -> None:
    with dev.connect(dev.token()) as client:
        client.send('{"action": "ping"}')
        client.recv(timeout=10)
        family = dev.family()
        assert len(family) > 3
        started = time.monotonic()
        dev.process.send_signal(number)
        assert dev.process.wait(timeout=10) == 0
        assert time.monotonic() - started < 3
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    assert alive(family) == set()


@pytest.mark.slow
def test_nothing_survives_when_it_is_killed(dev: Dev) -> None:
    with dev.connect(dev.token()):
        family = dev.family()
        dev.process.kill()
        dev.process.wait()
        deadline = time.monotonic() + 3
        while alive(family) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert alive(family) == set()


@pytest.mark.slow
def test_tokens_outlive_a_restart(dev: Dev, tmp_path: Path) -> None:
    token = dev.token()
    dev.process.send_signal(signal.SIGINT)
    dev.process.wait(timeout=10)
    again = Dev(tmp_path)
    try:
        again.wait_ready()
        with again.connect(token) as client:
            client.send('{"action": "ping"}')
            assert '"pong"' in client.recv(timeout=10)
    finally:
        again.process.kill()
        again.process.wait()


@pytest.mark.slow
def test_when_ministack_ends_it_says_so_and_ends_too(dev: Dev) -> None:
    ministack = next(
        pid
        for pid in dev.family()
        if b"roomcast_dev.local.ministack" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    family = dev.family()
    os.kill(ministack, signal.SIGKILL)
    assert dev.process.wait(timeout=5) == 1
    assert alive(family) == set()
    assert "MiniStack ended" in dev.log.read_text().splitlines()[-1]


def test_its_ports_are_the_same_after_a_restart(dev: Dev) -> None:
    assert dotenv_values(dev.env_file)["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{dev.port + 1}"


def test_a_port_that_somebody_else_has_is_no_reason_not_to_start(tmp_path: Path) -> None:
    port = free_port() + 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        dev = Dev(tmp_path, "--port", str(port - 1))  # the later one counts
        try:
            dev.wait_ready()
            assert dotenv_values(dev.env_file)["AWS_ENDPOINT_URL"] != f"http://127.0.0.1:{port}"
        finally:
            dev.process.kill()
            dev.process.wait()


def test_its_last_line_can_be_pasted_and_the_message_arrives(dev: Dev) -> None:
    """The reader has opened the demo page and entered as Ada."""
    last = [line.strip() for line in dev.log.read_text().splitlines() if " send user " in line][-1]
    page = f"http://localhost:{dev.port}/_demo/token"
    request = Request(page, b'{"name": "Ada"}', {"content-type": "application/json"})
    with urlopen(request) as answer:
        token = json.load(answer)["token"]
    with dev.connect(token) as ada:
        command = shlex.split(last)
        assert command[0] == "-c"  # this test's own way of starting it
        done = subprocess.run([*COMMAND[:-1], *command[1:]], capture_output=True, text=True, timeout=30)
        assert done.stdout.startswith("sent 1 "), done.stderr
        assert json.loads(ada.recv(timeout=10))["data"] == {"text": "hi"}


@pytest.mark.parametrize(
    ("program", "found", "typed"),
    [
        ("/somewhere/bin/roomcast", "/somewhere/bin/roomcast", "roomcast"),
        (".venv/bin/roomcast", None, ".venv/bin/roomcast"),
        ("/elsewhere/my tools/roomcast", None, "'/elsewhere/my tools/roomcast'"),
    ],
)
def test_a_command_is_shown_as_it_is_typed_here(
    monkeypatch: pytest.MonkeyPatch, program: str, found: str | None, typed: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: found)
    assert typed_here(program) == typed


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--port", str(port), "--env-file", str(tmp_path / ".env.local")],
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert done.returncode == 1
    assert (done.stdout + done.stderr).splitlines() == [
        f"roomcast dev: port {port} is in use: stop what listens there, or choose another with --port"
    ]
    assert not (tmp_path / ".env.local").exists()


def test_a_missing_node_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A project of its own, because the real one may have been synthesized already.
    root = tmp_path / "project"
    (root / "stacks").mkdir(parents=True)
    for name in ("roomcast", "roomcast_dev", "lambdas"):
        shutil.copytree(Path(__file__).parents[2] / name, root / name)
    for name in ("app.py", "cdk.json", "requirements.txt"):
        shutil.copy(Path(__file__).parents[2] / name, root / name)
    done = subprocess.run(
        [*COMMAND, "--port", str(free_port()), "--env-file", str(tmp_path / ".env.local")],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=root,
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(root)},
    )
    assert done.returncode == 1
    assert (done.stdout + done.stderr).splitlines() == [
        "roomcast dev: Node.js not found: install Node.js 22 or newer (CDK needs it to synthesize)"
    ]
