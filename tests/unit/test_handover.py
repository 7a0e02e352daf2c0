"""`.env.local`: what the local run changes in it, and what it never does."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from roomcast_dev.local import handover
from roomcast_dev.local.errors import LocalRunError

OURS = {
    "WEBSOCKET_API_ENDPOINT": "ws://localhost:3001/local",
    "JWT_SECRET": "kq0Jt-8Ff_2vXyZ1AbCdEfGhIjKlMnOpQrStUvWx",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".env.local"


def test_a_new_file_has_our_keys_and_is_for_its_owner_only(path: Path) -> None:
    handover.write(path, OURS)
    assert dotenv_values(path) == OURS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("# Set by `roomcast dev`")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_lines_of_others_stay_byte_for_byte(path: Path, line_end: str) -> None:
    lines = [
        "# secrets that are in no repository",
        "DATABASE_URL='postgres://u:p@h/d?x=#1'",
        "",
        'export STRIPE_KEY="sk_live_${HOME} # no comment"',
        "AWS_ENDPOINT_URL=http://127.0.0.1:1 # ours, from an earlier run",
        "not an assignment",
        "LAST=1",
    ]
    path.write_bytes(line_end.join(lines).encode())
    handover.write(path, OURS)
    kept = path.read_bytes().decode().split(line_end)
    assert kept[:4] == lines[:4]
    assert kept[4] == "AWS_ENDPOINT_URL=http://127.0.0.1:4566 # ours, from an earlier run"
    assert kept[5:7] == lines[5:7]
    assert {name: dotenv_values(path)[name] for name in OURS} == OURS


def test_writing_the_same_again_changes_nothing(path: Path) -> None:
    handover.write(path, OURS)
    before = path.read_bytes(), path.stat().st_mtime_ns
    handover.write(path, OURS)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("JWT_SECRET='correct horse # battery staple 9f8e7d6c'", "correct horse # battery staple 9f8e7d6c"),
        ('JWT_SECRET="correct horse # \\"battery\\" staple 9f8e"', 'correct horse # "battery" staple 9f8e'),
        ("JWT_SECRET='${HOME} correct horse battery staple'", "${HOME} correct horse battery staple"),
        ("export JWT_SECRET = zoë-correct-horse-battery-staple-1 # x", "zoë-correct-horse-battery-staple-1"),
    ],
)
def test_a_secret_that_is_there_is_used_whole_and_its_line_stays(path: Path, line: str, secret: str) -> None:
    path.write_text(line + "\n")
    assert handover.secret(path) == secret
    handover.write(path, {**OURS, "JWT_SECRET": secret})
    assert path.read_text().splitlines()[0] == line
    assert handover.secret(path) == secret


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("JWT_SECRET=short", "at least 32 bytes"),
        ("JWT_SECRET='a-secret-of-more-than-thirty-two-bytes '", "ends with white space"),
    ],
)
def test_a_secret_that_cannot_be_used_is_one_line(path: Path, line: str, problem: str) -> None:
    path.write_text(line + "\n")
    with pytest.raises(LocalRunError, match=f"{re.escape(str(path))}: JWT_SECRET.*{problem}"):
        handover.secret(path)


def test_without_a_secret_a_new_one_is_made_each_time(path: Path) -> None:
    assert handover.secret(path) != handover.secret(None)


def test_a_file_of_a_running_stage_is_taken_and_a_stale_one_is_not(path: Path) -> None:
    handover.refuse_if_taken(path)  # there is none
    with socket.create_server(("127.0.0.1", 0)) as gateway, socket.create_server(("127.0.0.1", 0)) as aws:
        handover.write(
            path,
            {
                "WEBSOCKET_API_ENDPOINT": f"ws://127.0.0.1:{gateway.getsockname()[1]}/local",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.getsockname()[1]}",
            },
        )
        with pytest.raises(
            LocalRunError, match=f"{re.escape(str(path))} belongs to the stage that runs at ws:"
        ):
            handover.refuse_if_taken(path)
        aws.close()
        handover.refuse_if_taken(path)
    handover.refuse_if_taken(path)


@pytest.mark.parametrize("url", ["", "nonsense", "ws://[::1", "ws://localhost:99999999/x"])
def test_a_file_that_somebody_edited_is_no_running_stage(path: Path, url: str) -> None:
    path.write_text(f"WEBSOCKET_API_ENDPOINT={url}\nAWS_ENDPOINT_URL={url}\n")
    handover.refuse_if_taken(path)
