"""The project of `project/`, run as people run their own: through the pytest plugin."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from roomcast_dev.local.console import Console
from roomcast_dev.local.stack import Project
from roomcast_dev.testing import WebSocketStack, run_stack

PLAIN = Project(Path(__file__).parent / "project", stack="plain")
GUARDED = replace(PLAIN, stack="guarded")


@pytest.fixture(scope="session")
def output() -> io.StringIO:
    """What the plain stack has written to its console."""
    return io.StringIO()


@pytest.fixture(scope="session")
def plain_stack(output: io.StringIO) -> Iterator[WebSocketStack]:
    with run_stack(PLAIN, console=Console(output)) as stack:
        yield stack


@pytest.fixture
def plain(plain_stack: WebSocketStack) -> Iterator[WebSocketStack]:
    """A running stack with no authorizer, clean."""
    yield plain_stack
    plain_stack.reset()


@pytest.fixture(scope="session")
def guarded_stack() -> Iterator[WebSocketStack]:
    with run_stack(GUARDED) as stack:
        yield stack


@pytest.fixture
def guarded(guarded_stack: WebSocketStack) -> Iterator[WebSocketStack]:
    """A running stack with an authorizer, clean."""
    yield guarded_stack
    guarded_stack.reset()
