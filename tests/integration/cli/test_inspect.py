"""`roomcast inspect` and `kick` against tables that hold people."""

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from roomcast import names
from roomcast.connection import Identity
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.listing import Listing
from tests.builders import APP, chat
from tests.fakes.management_api import GONE, FakeManagementApi
from tests.integration.cli.conftest import ANYTHING, connect, steering
from tests.unit.cli.conftest import Roomcast

pytestmark = pytest.mark.usefixtures("local_stage", "people")


@pytest.fixture
def people(dynamodb: Any) -> None:
    """An admin (a1=), a user twice (u1=, u2=), the newer in a chat room, and one whose token has ended."""
    now = time.time()

    def store_of(age: float) -> Store:
        return Store(Tables(dynamodb, "connections", "rooms", clock=lambda: now - age), APP.rooms)

    connect(store_of(7300), "a1=", "boss", "admin")
    connect(store_of(200), "u1=", "u1")
    store = store_of(130)
    connect(store, "u2=", "u1")
    store.members.grant(chat("42"), "u1")
    connection = store.connections.get("u2=")
    assert connection is not None
    assert store.members.join(connection, chat("42"), needs_grant=True)
    store.connections.connect(
        "old=", Identity("old", "user", "[bold]Old", "", expires_at=int(now) - 1, issued_at=int(now))
    )


def lines(text: str) -> list[list[str]]:
    """The cells of each line below the heads."""
    body = text.split("─\n", 1)[1] if "─\n" in text else text.split("── \n", 1)[1]
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in body.splitlines()
        if line.strip()
    ]


def test_the_connections_newest_first_without_those_whose_token_ended(roomcast: Roomcast) -> None:
    answer = roomcast("inspect")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("local stage: 3 connections of 2 users in 3 rooms")
    assert lines(answer.out) == [
        ["u1", "user", "U1", "chat_room_42, dashboard_user_u1", "2 min", "1 h 30 min", "u2="],
        ["u1", "user", "U1", "dashboard_user_u1", "3 min", "1 h 30 min", "u1="],
        ["boss", "admin", "Boss", "dashboard_admin", "2 h 01 min", "1 h 30 min", "a1="],
    ]


@pytest.mark.parametrize("what", ["connections", "users"])
@given(texts=st.lists(st.text(ANYTHING, min_size=1, max_size=60), min_size=3, max_size=3, unique=True))
@settings(
    max_examples=10,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_people_are_called_the_list_steers_nothing(
    roomcast: Roomcast, dynamodb: Any, what: str, texts: list[str]
) -> None:
    for connection_id, text in zip(("a1=", "u1=", "u2="), texts, strict=True):
        key = {"connectionId": {"S": connection_id}}
        item = dynamodb.get_item(TableName="connections", Key=key)["Item"]
        item |= {"userName": {"S": text}, "userId": {"S": text}}
        dynamodb.put_item(TableName="connections", Item=item)
    answer = roomcast("inspect", what)
    assert answer.code == 0
    assert not steering(answer.out)


@pytest.mark.parametrize(
    ("arguments", "connections"),
    [
        (("--user", "u1"), ["u2=", "u1="]),
        (("--room", "chat_room_42"), ["u2="]),
        (("--room", "dashboard_user_u1"), ["u2=", "u1="]),
        (("--role", "admin"), ["a1="]),
    ],
    ids=lambda value: " ".join(value),
)
def test_filters(roomcast: Roomcast, arguments: tuple[str, ...], connections: list[str]) -> None:
    answer = roomcast("inspect", *arguments)
    assert answer.code == 0, answer.err
    assert [line[-1] for line in lines(answer.out)] == connections


def test_rooms_with_the_largest_first(roomcast: Roomcast) -> None:
    assert lines(roomcast("inspect", "rooms").out) == [
        ["dashboard_user_u1", "2", "1", "2 min"],
        ["chat_room_42", "1", "1", "2 min"],
        ["dashboard_admin", "1", "1", "2 h 01 min"],
    ]


def test_users(roomcast: Roomcast) -> None:
    assert [line[:4] for line in lines(roomcast("inspect", "users").out)] == [
        ["u1", "user", "U1", "2"],
        ["boss", "admin", "Boss", "1"],
    ]


def test_more_than_the_limit_are_counted_not_shown(roomcast: Roomcast) -> None:
    out = roomcast("inspect", "--limit", "1").out
    assert "and 2 more" in out
    assert "a1=" not in out


def test_a_name_is_shown_as_it_is(roomcast: Roomcast, dynamodb: Any) -> None:
    now = int(time.time())
    who = Identity("u9", "user", "[red]Ann[/red]", "", expires_at=now + 60, issued_at=now)
    Store(Tables(dynamodb, "connections", "rooms"), APP.rooms).connections.connect("u9=", who)
    assert "[red]Ann[/red]" in roomcast("inspect", "--user", "u9").out


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)], ids=["yes", "no", "nobody to answer"]
)
def test_a_large_listing_says_what_it_costs_and_asks(
    roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr(Listing, "size", lambda self: (2_000_000, 1_000_000_000))
    monkeypatch.setattr("typer.confirm", _confirm_with(answer))
    got = roomcast("inspect")
    assert got.code == code
    assert "About 2,000,000 connections: 122,070 read units ($0.0153 in us-east-1), 200 s." in got.err
    assert ("u2=" in got.out) == (code == 0)


def _confirm_with(answer: str) -> Any:
    import typer

    def confirm(text: str, *, abort: bool, err: bool) -> bool:
        if answer != "y\n":
            raise typer.Abort
        return True

    return confirm


@pytest.mark.parametrize(
    "arguments", [("--yes",), ("--user", "u1"), ("--room", "chat_room_42")], ids=" ".join
)
def test_what_is_cheap_or_wanted_is_not_asked(
    roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Listing, "size", lambda self: (2_000_000, 1_000_000_000))
    assert roomcast("inspect", *arguments).code == 0


def test_live_looks_again_until_ctrl_c(roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("roomcast_dev.cli.inspect.time", SimpleNamespace(sleep=sleep, time=time.time))
    answer = roomcast("inspect", "--live", "--every", "5")
    assert (answer.code, looks) == (130, [5, 5, 5])
    assert "u2=" in answer.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--user", "u1", "--room", "dashboard_admin"), 2, "--user, --room"),
        (("--user", "a b"), 1, "user id 'a b'"),
        (("--room", "lobby"), 1, "room 'lobby'"),
        (("everything",), 2, "everything"),
    ],
)
def test_bad_input_is_one_line(roomcast: Roomcast, arguments: tuple[str, ...], code: int, said: str) -> None:
    answer = roomcast("inspect", *arguments)
    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1)
    assert said in answer.err


def test_kick_closes_all_connections_of_a_user(roomcast: Roomcast, api: FakeManagementApi, rows: Any) -> None:
    api.script("u1=", GONE)
    answer = roomcast("kick", "u1")
    assert (answer.code, answer.out) == (0, "closed 1 of u1\n")
    assert set(api.deleted) == {"u2="}
    assert {row["connectionId"] for row in rows("connections")} & {"u1=", "u2="} == set()


def test_kick_may_keep_the_user_out(roomcast: Roomcast, dynamodb: Any) -> None:
    assert roomcast("kick", "u1", "--keep-out").out == "closed 2 of u1; only a newer token lets them in\n"
    now = int(time.time())
    older = Identity("u1", "user", "", "", expires_at=now + 60, issued_at=now - 5)
    newer = Identity("u1", "user", "", "", expires_at=now + 60, issued_at=now + 5)
    store = Store(Tables(dynamodb, "connections", "rooms"), APP.rooms)
    assert store.connections.connect("u5=", older) == "revoked"
    assert store.connections.connect("u6=", newer) == "connected"
    assert roomcast("restore", "u1").out == "u1 may connect again\n"
    assert store.connections.connect("u7=", older) == "connected"


def test_nobody_is_a_sentence_and_not_an_empty_table(roomcast: Roomcast) -> None:
    assert roomcast("inspect", "--user", "nobody")[1:] == ("", "nobody has no open connection\n")
    assert roomcast("inspect", "--room", "chat_room_9")[1:] == ("", "nobody is in chat_room_9\n")


def test_a_pipe_gets_no_blanks_at_the_ends_of_lines(roomcast: Roomcast) -> None:
    lines = roomcast("inspect").out.split("\n")
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("what", ["connections", "users", "rooms"])
def test_json_counts_everything_and_lists_up_to_the_limit(roomcast: Roomcast, what: str) -> None:
    found = json.loads(roomcast("inspect", what, "--json", "--limit", "1").out)
    assert len(found[what]) == 1
    assert found["total"][what] > 1
    assert '"user_u1"' not in json.dumps(found)  # nobody joins an inbox, so nobody is shown one


def test_a_user_who_was_not_kept_out_is_said(roomcast: Roomcast) -> None:
    assert roomcast("restore", "nobody").err == "nobody was not kept out\n"
    roomcast("kick", "u1", "--keep-out")
    assert json.loads(roomcast("restore", "u1", "--json").out) == {
        "userId": "u1",
        "keptOut": False,
        "was": True,
    }


def test_a_tail_is_not_one_of_the_people(roomcast: Roomcast, store: Store) -> None:
    before = json.loads(roomcast("inspect", "--json").out)["total"]
    connect(store, "t=", names.OBSERVER, "admin")
    assert json.loads(roomcast("inspect", "--json").out)["total"] == before | {"observers": 1}
    shown = roomcast("inspect").out
    assert "; 1 roomcast tail" in shown.splitlines()[0]
    assert "t=" not in shown
