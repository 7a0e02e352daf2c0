"""Broadcasts of a stage that declares the room `all` are a stream, and every connection is in it."""

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from roomcast.app import App
from roomcast.errors import ApplicationError, InvalidNameError
from roomcast.functions import actions
from roomcast.functions.context import Context
from roomcast.rooms import Kind, Publish, Retention, Rooms
from roomcast.sending.audience import Everybody
from roomcast.sending.job import SendJob, SendLimits
from roomcast.sending.worker import Worker
from roomcast.service import WebSocketService
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.builders import APP
from tests.fakes.management_api import FakeManagementApi
from tests.integration.test_revocation import Stage

ALL = Kind("all", "anyone", Retention(messages=100))
ROOMS = Rooms([*APP.rooms.kinds[:-1], ALL])


class Town(Stage):
    """Three people are connected to a stage whose broadcasts are kept."""

    def __init__(self, api: FakeManagementApi, rooms: Rooms = ROOMS, **limits: int) -> None:
        super().__init__(api)
        client: Any = self.dynamodb
        tables = Tables(client, "connections", "rooms", history="history", clock=lambda: self.now)
        self.store = Store(tables, rooms)
        send_limits = SendLimits(**limits) if limits else SendLimits()
        self.service = WebSocketService(
            self.store,
            self.management_api,
            self.line if limits else None,
            clock=lambda: self.now,
            limits=send_limits,
        )
        self.worker = Worker(
            self.store, self.management_api, self.line, clock=lambda: self.now, limits=send_limits
        )
        for number in range(3):
            self.connect(f"c{number}=", f"u{number}")

    def ask(self, connection_id: str, action: str, **fields: Any) -> dict[str, Any]:
        """An action's answer."""
        answer = actions.handle(self.wiring(), connection_id, json.dumps({"action": action, **fields}))
        assert answer
        return dict(json.loads(answer)["data"])

    def join(self, connection_id: str, since: dict[str, Any] | None = None) -> dict[str, Any]:
        asked = {"room": "all"} if since is None else {"room": "all", "since": since}
        [entry] = self.ask(connection_id, "rooms:join", rooms=[asked])["rooms"]
        return dict(entry)

    def work(self) -> None:
        """Let the worker do all jobs."""
        while self.line.waiting:
            jobs, self.line.waiting = list(self.line.waiting), deque()
            assert all(self.run(job, age=6) for job in jobs)  # receivers are read again

    def heard(self, connection_id: str) -> list[tuple[int | None, object]]:
        return [(m.get("seq"), m["data"]) for m in map(json.loads, self.api.delivered[connection_id])]


@pytest.fixture
def town(api: FakeManagementApi) -> Iterator[Town]:
    town = Town(api)
    yield town
    town.management_api.close()


def test_everybody_gets_broadcasts_with_numbers_without_having_joined(town: Town) -> None:
    reports = [town.service.broadcast("news", n) for n in (1, 2)]
    assert [(r.sent, r.seq) for r in reports] == [(3, 1), (3, 2)]
    assert town.heard("c2=") == [(1, 1), (2, 2)]


def test_who_was_away_asks_for_what_it_missed(town: Town) -> None:
    first = town.join("c0=")
    assert (first["success"], first["seq"], first["recovered"]) == (True, 0, False)
    for n in range(3):
        town.service.broadcast("news", n)
    town.connect("c9=", "u0")
    back = town.join("c9=", {"epoch": first["epoch"], "seq": 1})
    assert (back["recovered"], [m["data"] for m in back["messages"]]) == (True, [1, 2])
    page = town.ask("c9=", "rooms:history", room="all")
    assert [m["seq"] for m in page["messages"]] == [1, 2, 3]
    pong = town.ask("c9=", "ping", rooms=["all", "user"])
    assert pong["rooms"]["all"]["seq"] == 3
    kept = town.service.history("all")
    assert kept
    assert [message.seq for message in kept.messages] == [1, 2, 3]


def test_a_join_writes_nothing_about_it_and_takes_no_place(town: Town) -> None:
    town.join("c0=")
    items = town.dynamodb.scan(TableName="rooms")["Items"]
    assert not any(item["room"]["S"] == "all" for item in items)
    assert town.ask("c0=", "rooms:leave", rooms=["all"])["rooms"][0]["success"]
    town.service.broadcast("news", 1)
    assert town.heard("c0=") == [(1, 1)]  # everybody still is in it


def test_an_action_of_the_application_may_join_it(town: Town) -> None:
    town.service.broadcast("news", 1)
    connection = town.store.connections.get("c0=")
    assert connection
    found = Context(town.wiring(), connection).join("all", position=True)
    assert (found["seq"], found["recovered"]) == (1, False)


def test_on_a_large_stage_a_join_says_about_how_many_there_are(town: Town) -> None:
    town.store.size.put(5_000)
    assert town.join("c0=")["members"] == 5_000


@pytest.mark.parametrize("how", ["backend", "job", "room"])
def test_a_large_broadcast_goes_over_the_queue(api: FakeManagementApi, how: str) -> None:
    town = Town(api, direct=1, job_receivers=1, split=2)
    if how == "job":
        assert town.run(SendJob(Everybody(), "news", 1, "one"))
    elif how == "backend":
        assert town.service.broadcast("news", 1).queued
    else:
        assert town.service.send_to_room("all", "news", 1).queued
    town.work()
    assert [town.heard(f"c{number}=") for number in range(3)] == [[(1, 1)]] * 3
    town.management_api.close()


def test_of_a_last_value_with_a_window_the_newest_is_broadcast(api: FakeManagementApi) -> None:
    town = Town(api, Rooms([Kind("all", "anyone", Retention(1, window=5))]), direct=9, split=9)
    for n in range(4):
        town.service.broadcast("news", n)
    town.now += 5
    town.work()
    assert town.heard("c1=") == [(1, 0), (4, 3)]
    town.management_api.close()


def test_where_it_is_not_declared_a_broadcast_makes_no_call_more(api: FakeManagementApi) -> None:
    town = Town(api, APP.rooms)
    town.dynamodb.calls.clear()
    assert town.service.broadcast("news", 1).seq is None
    assert town.dynamodb.calls == {"Scan": 1}
    assert town.join("c0=")["code"] == "invalid_room"
    with pytest.raises(InvalidNameError):
        town.service.send_to_room("all", "news", 1)
    town.management_api.close()


@pytest.mark.parametrize(("history", "publish"), [(None, "none"), (Retention(messages=2), "members")])
def test_it_has_a_history_and_nothing_else(history: Retention | None, publish: Publish) -> None:
    with pytest.raises(ApplicationError, match="every connection is in it"):
        App().room("all", join="anyone", history=history, publish=publish)
