"""A directory of its own for each test, and no settings of a stage but those that the test makes."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest

from roomcast_dev.cli.main import run


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Roomcast = Callable[..., Answer]


def terminal(script: str, *, columns: int) -> str:
    """What a Python script prints on a terminal, without colours."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], stdout=theirs, env=environ
    ):
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # Linux's way to say that the other end is closed
            while more := os.read(ours, 65536):
                shown += more
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with patch.dict(os.environ):  # commands point their process at the stage; the next test must not see it
        for key in list(os.environ):
            if key.startswith(("WEBSOCKET_", "JWT_")):
                del os.environ[key]
        os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
        os.environ.update(COLUMNS="200", TERM="dumb")
        yield tmp_path


@pytest.fixture
def roomcast(capsys: pytest.CaptureFixture[str]) -> Roomcast:
    def command(*arguments: str) -> Answer:
        code = run(arguments)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return command
