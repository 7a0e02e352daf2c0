"""The `roomcast` command against the running stack."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from roomcast_dev.local import handover
from roomcast_dev.testing import WebSocketStack

COMMAND = [sys.executable, "-c", "from roomcast_dev.cli.main import main; main()"]


@pytest.fixture
def env_file(websocket_stack: WebSocketStack, tmp_path: Path) -> Path:
    """The env file of the running stack, as `roomcast dev` writes it."""
    path = tmp_path / ".env.local"
    handover.write(path, websocket_stack.environment)
    return path


@pytest.fixture
def roomcast(env_file: Path) -> Callable[..., str]:
    """Run the `roomcast` command and return what it printed."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments, "--env-file", str(env_file)], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    return run
