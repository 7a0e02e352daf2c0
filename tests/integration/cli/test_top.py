"""`roomcast top`: what is on the screen, and what the keys do."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.text import Text
from textual.widgets import DataTable, Static

from roomcast.connection import Connection
from roomcast.errors import AwsRefusedError
from roomcast.rooms import inbox
from roomcast.store import Store
from roomcast_dev.cli.inspect import Overview
from roomcast_dev.cli.target import Place
from roomcast_dev.cli.top_screen import TopScreen
from roomcast_dev.cli.watch import Counted, Look, Watch
from tests.integration.cli.conftest import connect
from tests.unit.cli.conftest import Roomcast


def person(user_id: str, *rooms: str, number: int = 1, name: str = "") -> Connection:
    now = int(time.time())
    return Connection(
        connection_id=f"{user_id}{number}=",
        user_id=user_id,
        role="user",
        connected_at=time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now - 90 - number)),
        ttl=now + 3600,
        expires_at=now + 3600,
        rooms=frozenset({*rooms, inbox(user_id).name}),
        name=name,
        issued_at=now,
        spread=frozenset(),
    )


PEOPLE = [
    person("ada", "chat_room_1", "chat_room_2"),
    person("ada", "chat_room_1", number=2),
    person("bob", "chat_room_1", name="[red]Bob\x1b[31m"),
]


def look(people: list[Connection] = PEOPLE, **more: Any) -> Look:
    return Look("local stage", time.time(), Overview.of(people), **more)


def rows(app: TopScreen) -> list[list[str]]:
    table = app.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(n)] for n in range(table.row_count)]


def summary(app: TopScreen) -> str:
    shown = app.query_one("#summary", Static).content
    assert isinstance(shown, Text)
    return shown.plain


@pytest.fixture
def kicked() -> list[str]:
    return []


@pytest.fixture
def screen(kicked: list[str]) -> Callable[..., TopScreen]:
    def make(*looks: Look) -> TopScreen:
        left = list(looks)

        def kick(user: str) -> int:
            kicked.append(user)
            return 2

        return TopScreen(lambda: left.pop(0) if len(left) > 1 else left[0], kick, every=3600)

    return make


async def ready(app: TopScreen, pilot: Any) -> None:
    await app.workers.wait_for_complete()
    await pilot.pause()


async def test_it_shows_who_is_there_and_names_steer_nothing(screen: Callable[..., TopScreen]) -> None:
    app = screen(look(queued=3, dead=1))
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app, pilot)
        assert "3 connections  2 users  2 rooms" in summary(app)
        assert "queue 3  dead-letter queue 1" in summary(app)
        assert [row[0] for row in rows(app)] == ["ada", "bob", "ada"]  # the newest first
        [bob] = [row for row in rows(app) if row[0] == "bob"]
        assert bob[2].startswith("[red]Bob")
        assert "\x1b" not in bob[2]
        assert "user_" not in str(rows(app))  # everybody's inbox says nothing


async def test_rooms_and_users_and_into_them_and_back(screen: Callable[..., TopScreen]) -> None:
    app = screen(look())
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app, pilot)
        await pilot.press("r")
        assert rows(app) == [["chat_room_1", "3", "2"], ["chat_room_2", "1", "1"]]
        await pilot.press("down", "enter")
        assert [row[-1] for row in rows(app)] == ["ada1="]
        assert summary(app).endswith("room chat_room_2")
        await pilot.press("escape", "u")
        assert next(row[:4] for row in rows(app)) == ["ada", "user", "", "2"]
        await pilot.press("enter")
        assert [row[0] for row in rows(app)] == ["ada", "ada"]


@pytest.mark.parametrize(("answer", "closed"), [("y", ["ada"]), ("n", []), ("escape", [])])
async def test_a_kick_asks_first(
    screen: Callable[..., TopScreen], kicked: list[str], answer: str, closed: list[str]
) -> None:
    app = screen(look())
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app, pilot)
        await pilot.press("k")
        assert kicked == []
        await pilot.press(answer)
        await ready(app, pilot)
    assert kicked == closed


async def test_in_the_list_of_rooms_there_is_nobody_to_kick(
    screen: Callable[..., TopScreen], kicked: list[str]
) -> None:
    app = screen(look())
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app, pilot)
        await pilot.press("r", "k", "y")
    assert kicked == []


async def test_the_selected_row_stays_selected(screen: Callable[..., TopScreen]) -> None:
    app = screen(look(), look([person("new", number=0), *PEOPLE]))
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app, pilot)
        await pilot.press("down")
        assert rows(app)[app.query_one(DataTable).cursor_row][-1] == "bob1="
        app.refresh_look()
        await ready(app, pilot)
        assert len(rows(app)) == 4
        assert rows(app)[app.query_one(DataTable).cursor_row][-1] == "bob1="


async def test_rates_money_and_trouble(screen: Callable[..., TopScreen]) -> None:
    counted = Counted({"Sent": 120.0, "errors": 2.0}, dollars_an_hour=0.0123)
    app = screen(look(counted=counted, problem="throttled"))
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app, pilot)
        assert "sent 120" in summary(app)
        assert "errors 2" in summary(app)
        assert "$0.0123 in the last hour" in summary(app)
        assert "no answer since: throttled" in summary(app)


@pytest.fixture
def environ(local_stage: Path) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in local_stage.read_text().splitlines())


def test_a_look_says_who_came_and_went(environ: Mapping[str, str], store: Store) -> None:
    watch = Watch(Place(), environ)
    connect(store, "a=", "ada")
    assert (watch.look().came, len(watch.look().seen.connections)) == (0, 1)
    connect(store, "b=", "bob")
    store.connections.disconnect("a=")
    seen = watch.look()
    assert (seen.came, seen.went, list(seen.seen.users)) == (1, 1, ["bob"])


def test_a_stage_that_does_not_answer_keeps_the_last_look(
    environ: Mapping[str, str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(Place(), environ)
    connect(store, "a=", "ada")
    watch.look()

    def refuse() -> Any:
        raise AwsRefusedError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "Scan")

    monkeypatch.setattr(watch, "listing", SimpleNamespace(of_everybody=refuse))
    found = watch.look()
    assert "slow down" in found.problem
    assert list(found.seen.users) == ["ada"]


def test_a_pipe_is_told_what_prints(roomcast: Roomcast, local_stage: Path) -> None:
    answer = roomcast("top")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert "roomcast inspect --json" in answer.err
