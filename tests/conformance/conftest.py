"""The stand-in as a target, twice: with this project's stage, and with a CDK app that is not ours."""

from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest

from roomcast_dev.cli.target import Place
from roomcast_dev.local import handover
from roomcast_dev.testing import WebSocketStack
from tests.conformance.__main__ import target_of
from tests.conformance.target import Target
from tests.integration.local.conftest import output as output
from tests.integration.local.conftest import plain as plain
from tests.integration.local.conftest import plain_stack as plain_stack


@pytest.fixture
def stage(
    websocket_stack: WebSocketStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Target]:
    """This project's stage."""
    path = tmp_path / ".env.local"
    handover.write(path, websocket_stack.environment)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")  # `environ()` sets them for the process; the next test must not see it
    target = target_of(Place(env_file=path))
    yield target
    target.close()


@pytest.fixture
def foreign(plain: WebSocketStack) -> Iterator[Target]:
    """A stage of another project, which lets everybody in."""
    target = Target(
        url=plain.url,
        callback_url=plain.stack.callback_url,
        admit=lambda: "",
        connection_id=lambda _: plain.connection_ids()[-1],
        session=botocore.session.get_session(),
        region="us-east-1",
    )
    yield target
    target.close()
