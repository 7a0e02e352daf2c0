"""The pytest plugin: a whole stack for tests, with clients, a service and faults.

`pip install "roomcast[dev]"` switches it on. Ask for the fixture `websocket_stack`:

    def test_order_reaches_the_admin(websocket_stack):
        admin = websocket_stack.connect("anna", role="admin")
        admin.send("dashboard:join")
        admin.wait_for("dashboard:joined")
        websocket_stack.service.send_to_room("dashboard_admin", "dashboard:update", {"orderId": "123"})
        assert admin.wait_for("dashboard:update")["data"] == {"orderId": "123"}

    def test_a_post_that_gets_429(websocket_stack):
        websocket_stack.faults.management = [ManagementFault(status=429, every=3)]
        ...

The stack starts once per test session (about a second, and ten more when the CDK app has changed) and runs
in a thread next to the tests. After each test its clients are closed and its faults are cleared. Every call
blocks, so it serves plain and asyncio tests alike. While a test with the fixture runs, `os.environ` holds
what a backend needs (`WEBSOCKET_API_ENDPOINT`, the table names, `AWS_ENDPOINT_URL`, ...), so that the code
under test finds the stack.

The stack comes from the CDK app in pytest's root directory. To run another one, override the fixture
`websocket_project`.

pytest imports this module in every project of an environment that has Roomcast installed, so it imports
nothing but pytest; the fixtures import the rest when a test asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from roomcast_dev.local.stack import Project
    from roomcast_dev.testing import WebSocketStack


@pytest.fixture(scope="session")
def websocket_project(pytestconfig: pytest.Config) -> Project:
    """The CDK project that `websocket_stack` runs: the one in pytest's root directory."""
    try:
        from roomcast_dev.local.project import project_in
    except ModuleNotFoundError as error:
        _missing(error)
    return project_in(pytestconfig.rootpath)


@pytest.fixture(scope="session")
def _websocket_stack(websocket_project: Project) -> Iterator[WebSocketStack]:
    try:
        from roomcast_dev.testing import run_stack
    except ModuleNotFoundError as error:
        _missing(error)
    with run_stack(websocket_project) as stack:
        yield stack


@pytest.fixture
def websocket_stack(
    _websocket_stack: WebSocketStack, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WebSocketStack]:
    """A running stack, clean: no clients of other tests, no faults. See the module's text."""
    import os

    from roomcast_dev.local.environment import pointed_at

    wanted = pointed_at(_websocket_stack.environment, os.environ)
    for name in set(os.environ) - set(wanted):
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    yield _websocket_stack
    _websocket_stack.reset()


def _missing(error: ModuleNotFoundError) -> NoReturn:
    if str(error.name).startswith("roomcast"):
        raise error
    pytest.fail(
        f"the fixture websocket_stack needs {error.name}, which is not installed:"
        ' pip install "roomcast[dev]"',
        pytrace=False,
    )
