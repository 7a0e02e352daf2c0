"""What commands show of bodies and e-mail addresses, which tables hold."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from roomcast.connection import Identity
from roomcast.store import Store
from tests.builders import chat
from tests.fakes.management_api import FakeManagementApi
from tests.integration.cli.conftest import connect
from tests.integration.cli.test_tail import event, gateway, stop_after  # noqa: F401  fixtures
from tests.unit.cli.conftest import Roomcast

SECRET_BODY = "the surprise is on Friday"
EMAIL = "u1@x.test"


@pytest.fixture
def sent(local_stage: Path, store: Store, api: FakeManagementApi, roomcast: Roomcast) -> str:
    """The id of a message that is kept, to a user whose e-mail address is kept."""
    local_stage.write_text(local_stage.read_text() + "WEBSOCKET_HISTORY_TABLE=history\n")
    connect(store, "c1=", "u1")
    store.members.grant(chat("42"), "u1")
    connection = store.connections.get("c1=")
    assert connection is not None
    assert store.members.join(connection, chat("42"), needs_grant=True)
    answer = roomcast("send", "room", "chat_room_42", "chat:message", json.dumps(SECRET_BODY), "--json")
    message_id = json.loads(answer.out)["id"]
    return str(message_id)


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["inspect", "users"],
        ["inspect", "rooms"],
        ["inspect", "--room", "chat_room_42"],
        ["inspect", "--user", "u1"],
        ["why", "u1", "ID"],
        ["kick", "u1"],
        ["restore", "u1"],
    ],
    ids=lambda command: " ".join(command),
)
def test_no_command_shows_a_body_or_an_email_address(
    roomcast: Roomcast,
    sent: str,
    dynamodb: Any,
    command: list[str],
    as_json: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables = json.dumps([dynamodb.scan(TableName=name)["Items"] for name in ("history", "connections")])
    assert SECRET_BODY in tables
    assert EMAIL in tables
    with caplog.at_level(logging.DEBUG, "roomcast"):
        answer = roomcast(*[sent if part == "ID" else part for part in command], *as_json)
    assert answer.code == 0, answer.err
    for text in (answer.out, answer.err, caplog.text):
        assert SECRET_BODY not in text
        assert EMAIL not in text


def test_tail_shows_what_is_sent_from_now_on_and_nothing_that_is_kept(
    roomcast: Roomcast,
    gateway: Any,  # noqa: F811
) -> None:
    gateway.kept = {"recovered": False, "messages": [event("dashboard_admin", SECRET_BODY, seq=1, epoch="e")]}
    gateway.says = [[event("dashboard_admin", "live")]]
    answer = roomcast("tail", "dashboard_admin")
    assert answer.out.endswith('news  "live"\n')
    assert SECRET_BODY not in answer.out + answer.err
    assert [set(action) for action in gateway.actions] == [{"action", "rooms", "id"}]
    assert gateway.actions[0]["rooms"] == [
        {"room": "dashboard_admin"}
    ]  # no position: it asks for nothing kept


def test_tail_comes_as_nobody_with_a_name(roomcast: Roomcast, gateway: Any) -> None:  # noqa: F811
    roomcast("tail", "dashboard_admin")
    [who] = gateway.identities
    assert isinstance(who, Identity)
    assert (who.user_id, who.name, who.email) == ("roomcast-tail", "", "")
