"""A stage in moto with a management API next to it, and what commands need to find it."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import pytest
from hypothesis import strategies as st

from roomcast.connection import Identity
from roomcast.names import Role
from roomcast.store import Store
from tests.builders import APP, ROOMS_IN_FILE, SECRET
from tests.fakes.management_api import FakeManagementApi
from tests.unit.cli.conftest import own_directory as own_directory
from tests.unit.cli.conftest import roomcast as roomcast

ANYTHING = st.characters(codec="utf-8") | st.sampled_from("\x1b\x07\r\n\t\x9b\u202e\u2028\u2029\ufeff\x7f")
"""What a stranger may write, with much of what steers a terminal."""


def steering(printed: str) -> set[str]:
    """Of what a command has printed: characters that do more than show themselves."""
    joiners = "\u00a0\u200c\u200d\u202f\u3000"
    return {c for c in printed if not c.isprintable() and c != "\n" and c not in joiners}


def connect(store: Store, connection_id: str, user_id: str, role: Role = "user") -> None:
    """Connect a user and join the user's dashboard room."""
    now = int(time.time())
    who = Identity(user_id, role, user_id.title(), f"{user_id}@x.test", expires_at=now + 5430, issued_at=now)
    assert store.connections.connect(connection_id, who) == "connected"
    connection = store.connections.get(connection_id)
    assert connection is not None
    assert store.members.join(connection, APP.rooms.called("dashboard", role, user_id), needs_grant=False)


@pytest.fixture
def local_stage(dynamodb: Any, api: FakeManagementApi, own_directory: Path) -> Path:
    path = own_directory / ".env.local"
    path.write_text(
        f"WEBSOCKET_API_ENDPOINT={api.endpoint}\nWEBSOCKET_CONNECTIONS_TABLE=connections\n"
        f"WEBSOCKET_ROOMS_TABLE=rooms\nWEBSOCKET_ROOMS={ROOMS_IN_FILE}\nJWT_SECRET={SECRET}\nAWS_REGION=us-east-1\n"
    )
    return path


class FakeCloudFormation(BaseHTTPRequestHandler):
    """As much of CloudFormation as commands ask. moto's would need packages that nothing else here needs.

    Attributes:
        stacks: by name, the outputs of each.
        resources: of every stack: the type and the physical name of each.
    """

    stacks: dict[str, Mapping[str, str]]
    resources: list[tuple[str, str]]

    def do_POST(self) -> None:
        query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        action, name = query["Action"][0], query["StackName"][0]
        if name not in self.stacks:
            problem = (
                f"<Code>ValidationError</Code><Message>Stack with id {escape(name)} does not exist</Message>"
            )
            self._answer(400, f"<Error><Type>Sender</Type>{problem}</Error>")
        elif action == "DescribeStacks":
            outputs = _members(
                f"<OutputKey>{escape(key)}</OutputKey><OutputValue>{escape(value)}</OutputValue>"
                for key, value in self.stacks[name].items()
            )
            stack = f"<StackName>{escape(name)}</StackName><Outputs>{outputs}</Outputs>"
            self._answer(
                200, f"<DescribeStacksResult><Stacks>{_members([stack])}</Stacks></DescribeStacksResult>"
            )
        else:
            assert action == "ListStackResources"
            summaries = _members(
                f"<ResourceType>{kind}</ResourceType><PhysicalResourceId>{escape(id_)}</PhysicalResourceId>"
                for kind, id_ in self.resources
            )
            inner = f"<StackResourceSummaries>{summaries}</StackResourceSummaries>"
            self._answer(200, f"<ListStackResourcesResult>{inner}</ListStackResourcesResult>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's name
        """Say nothing: pytest's output is for failures."""

    def _answer(self, status: int, inner: str) -> None:
        body = f"<Response>{inner}</Response>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _members(items: Iterable[str]) -> str:
    return "".join(f"<member>{item}</member>" for item in items)


@pytest.fixture
def cloudformation(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeCloudFormation]]:
    FakeCloudFormation.stacks, FakeCloudFormation.resources = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeCloudFormation) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", f"http://127.0.0.1:{server.server_port}")
        yield FakeCloudFormation
        server.shutdown()
