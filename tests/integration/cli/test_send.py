"""`roomcast send`, `grant` and `revoke` against tables and a management API."""

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from roomcast import names
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.builders import APP, chat
from tests.fakes.management_api import FAILING, GONE, FakeManagementApi
from tests.integration.cli.conftest import connect
from tests.unit.cli.conftest import Roomcast

pytestmark = pytest.mark.usefixtures("local_stage")

OLD_ENOUGH = 60.0  # seconds ago: a 410 then means gone, not "not open yet"


@pytest.fixture
def online(dynamodb: Any) -> None:
    """An admin in the admins' room (a1=) and a user with two connections (u1=, u2=)."""
    store = Store(Tables(dynamodb, "connections", "rooms", clock=lambda: time.time() - OLD_ENOUGH), APP.rooms)
    connect(store, "a1=", "boss", "admin")
    connect(store, "u1=", "u1")
    connect(store, "u2=", "u1")


@pytest.mark.parametrize(
    ("arguments", "receivers"),
    [
        (("room", "dashboard_admin"), {"a1="}),
        (("user", "u1"), {"u1=", "u2="}),
        (("all",), {"a1=", "u1=", "u2="}),
    ],
)
def test_it_reaches_those_it_names_and_prints_the_report(
    roomcast: Roomcast,
    online: None,
    api: FakeManagementApi,
    arguments: tuple[str, ...],
    receivers: set[str],
) -> None:
    answer = roomcast("send", *arguments, "dashboard:update", '{"orderId":"123"}')
    assert (answer.code, answer.err) == (0, "")
    assert set(api.delivered) == receivers
    assert answer.out.startswith(f"sent {len(receivers)}  gone 0  failed 0  unknown 0  queued 0  id ")
    for bodies in api.delivered.values():
        envelope = json.loads(bodies[0])
        assert envelope["event"] == "dashboard:update"
        assert envelope["data"] == {"orderId": "123"}
        assert envelope["id"] in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("user", "nobody"), "nobody has no open connection"),
        (("room", "chat_room_empty"), "nobody is in chat_room_empty"),
    ],
)
def test_a_send_without_a_receiver_says_so(
    roomcast: Roomcast, online: None, api: FakeManagementApi, arguments: tuple[str, ...], said: str
) -> None:
    answer = roomcast("send", *arguments, "dashboard:update", "1")
    assert (answer.code, answer.err) == (0, f"{said}\n")
    assert answer.out.startswith("sent 0  gone 0  failed 0  unknown 0  queued 0  id ")
    assert not api.delivered


def test_data_comes_from_stdin(
    roomcast: Roomcast, online: None, api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('["from", "a", "file"]'))
    assert roomcast("send", "room", "dashboard_admin", "x", "-").code == 0
    assert json.loads(api.delivered["a1="][0])["data"] == ["from", "a", "file"]


def test_a_gone_connection_is_counted_and_pruned(
    roomcast: Roomcast, online: None, api: FakeManagementApi, rows: Any
) -> None:
    api.script("u1=", GONE)
    answer = roomcast("send", "user", "u1", "x", "1")
    assert answer.code == 0
    assert answer.out.startswith("sent 1  gone 1  failed 0")
    assert {row["connectionId"] for row in rows("connections")} == {"a1=", "u2="}


def test_failed_receivers_make_the_exit_code_1(
    roomcast: Roomcast, online: None, api: FakeManagementApi
) -> None:
    api.script("a1=", FAILING)
    answer = roomcast("send", "room", "dashboard_admin", "x", "1")
    assert answer.code == 1
    assert answer.out.startswith("sent 0  gone 0  failed 1")
    assert answer.err.count("\n") == 1


def test_a_grant_lets_the_user_join_and_a_revoke_ends_it(
    roomcast: Roomcast, online: None, dynamodb: Any
) -> None:
    store = Store(Tables(dynamodb, "connections", "rooms"), APP.rooms)
    connection = store.connections.get("u1=")
    assert connection is not None
    room = chat("42")
    assert not store.members.join(connection, room, needs_grant=True)
    assert roomcast("grant", "chat_room_42", "u1").out == "u1 may join chat_room_42\n"
    assert store.members.join(connection, room, needs_grant=True)
    assert roomcast("revoke", "chat_room_42", "u1").out == "u1 may no longer join chat_room_42\n"
    assert list(store.receivers.of_room(room)) == []
    assert not store.members.join(connection, room, needs_grant=True)


def test_without_its_tables_the_stage_is_one_line(roomcast: Roomcast, local_stage: Path) -> None:
    local_stage.write_text(local_stage.read_text().replace("=connections", "=elsewhere"))
    answer = roomcast("send", "all", "x", "1")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "ResourceNotFoundException" in answer.err


def test_json_is_the_whole_report(roomcast: Roomcast, online: None, api: FakeManagementApi) -> None:
    report = json.loads(roomcast("send", "user", "u1", "x", "1", "--json").out)
    assert report["sent"] == 2
    assert report["id"] == json.loads(api.delivered["u1="][0])["id"]


def test_a_right_that_was_not_there_is_said(roomcast: Roomcast, online: None) -> None:
    answer = roomcast("revoke", "chat_room_nope", "u1", "--json")
    assert (answer.code, answer.err) == (0, "u1 had no grant for chat_room_nope\n")
    assert json.loads(answer.out)["had"] is False
    roomcast("grant", "chat_room_42", "u1")
    assert json.loads(roomcast("revoke", "chat_room_42", "u1", "--json").out)["had"] is True


@pytest.mark.parametrize("room", ["dashboard_admin", "dashboard_user_u1", "user_u1"])
def test_a_room_that_takes_no_grants_is_refused(roomcast: Roomcast, online: None, room: str) -> None:
    answer = roomcast("grant", room, "u1")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert "only these take grants" in answer.err


def test_a_tail_is_named_and_is_nobody(
    roomcast: Roomcast, store: Store, online: None, api: FakeManagementApi
) -> None:
    connect(store, "t=", names.OBSERVER, "admin")  # it is in dashboard_admin too
    answer = roomcast("send", "room", "dashboard_admin", "x", "1")
    assert (answer.out.split("  ")[0], answer.err) == ("sent 2", "1 of these is `roomcast tail`\n")
    roomcast("kick", "boss")
    answer = roomcast("send", "room", "dashboard_admin", "x", "1")
    assert answer.out.startswith("sent 1")
    assert "nobody is in dashboard_admin" in answer.err
