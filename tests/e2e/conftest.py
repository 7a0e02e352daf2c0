"""The `realtime` command against the running stack."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.main import write_env_file
from local.pytest_plugin import WebSocketStack

COMMAND = [sys.executable, "-c", "from cli.main import main; main()"]


@pytest.fixture
def env_file(websocket_stack: WebSocketStack, tmp_path: Path) -> Path:
    """The env file of the running stack, as `realtime dev` writes it."""
    path = tmp_path / ".env.local"
    write_env_file(path, dict(websocket_stack.environment))
    return path


@pytest.fixture
def realtime(env_file: Path) -> Callable[..., str]:
    """Run the `realtime` command and return what it printed."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments, "--env-file", str(env_file)], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    return run
