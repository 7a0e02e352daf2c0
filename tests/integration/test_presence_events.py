"""What members hear of presence, through the actions, the worker and the service."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from roomcast.errors import JobError
from roomcast.rooms import Rooms
from roomcast.sending.job import PresenceJob, parse
from roomcast.store.presence import COUNT_SECONDS, GRACE, LISTED_AGAIN, LONGEST, MAX_LISTED, Presence
from tests.builders import APP
from tests.fakes.dynamodb import Fault
from tests.support.presence_stage import KIND, ROOM, Stage


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_join_is_answered_with_who_is_there_and_told_to_all(stage: Stage) -> None:
    assert stage.join("a=", "ann") == {
        "version": 0,
        "count": 1,
        "listed": True,
        "users": [{"id": "ann", "name": "Ann"}],
    }
    stage.pass_time(1)
    assert [user["id"] for user in stage.join("b=", "bob")["users"]] == ["ann", "bob"]
    stage.pass_time(1)
    assert stage.heard("a=") == [("presence:joined", 1, "ann"), ("presence:joined", 2, "bob")]
    assert stage.got["b="] == [
        ("presence:joined", {"room": ROOM, "version": 2, "user": {"id": "bob", "name": "Bob"}})
    ]
    assert stage.service.presence(ROOM) == Presence(2, 2, {"ann": "Ann", "bob": "Bob"})


def test_a_leave_is_told_after_the_grace(stage: Stage) -> None:
    for connection_id, user in (("a=", "ann"), ("b=", "bob")):
        stage.join(connection_id, user)
    stage.pass_time(1)
    stage.heard("a=")
    stage.disconnect("b=")
    stage.pass_time(GRACE - 1)
    assert stage.heard("a=") == []
    assert stage.act("a=", "rooms:presence", room=ROOM)["count"] == 2
    stage.pass_time(2)
    assert stage.heard("a=") == [("presence:left", 3, "bob")]
    assert stage.act("a=", "rooms:presence", room=ROOM) == {
        "room": ROOM,
        "version": 3,
        "count": 1,
        "listed": True,
        "users": [{"id": "ann", "name": "Ann"}],
    }


@pytest.mark.parametrize(
    "end",
    [
        lambda stage: stage.act("b=", "rooms:leave", rooms=[ROOM]),
        lambda stage: stage.disconnect("b="),
        lambda stage: stage.service.disconnect_user("bob"),
        lambda stage: stage.store.connections.prune(stage.store.receivers.of_connection("b="), [ROOM]),
    ],
    ids=["a leave", "a disconnect", "a kick", "a prune"],
)
def test_whatever_ends_a_membership_is_told(stage: Stage, end: Callable[[Stage], Any]) -> None:
    stage.delete = lambda ids, **_: stage.look(ids)  # type: ignore[attr-defined]
    for connection_id, user in (("a=", "ann"), ("b=", "bob")):
        stage.join(connection_id, user)
    stage.pass_time(30)
    stage.heard("a=")
    end(stage)
    stage.pass_time(GRACE + 1)
    assert stage.heard("a=") == [("presence:left", 3, "bob")]


def test_a_revocation_is_told() -> None:
    stage = Stage(KIND._replace(join="granted"))
    for connection_id, user in (("a=", "ann"), ("b=", "bob")):
        stage.service.grant_room(ROOM, user)
        stage.join(connection_id, user)
    stage.pass_time(1)
    stage.service.revoke_room(ROOM, "bob")
    stage.pass_time(GRACE + 1)
    assert stage.heard("a=")[-1] == ("presence:left", 3, "bob")


def test_tabs_reloads_and_handovers_are_not_told(stage: Stage) -> None:
    stage.join("a=", "ann")
    stage.join("b0=", "bob")
    stage.pass_time(1)
    stage.heard("a=")
    stage.join("b1=", "bob")  # another tab
    stage.disconnect("b0=")
    stage.pass_time(60)
    stage.disconnect("b1=")  # a reload
    stage.pass_time(GRACE - 2)
    stage.join("b2=", "bob")
    stage.pass_time(60)
    stage.join("b3=", "bob")  # a handover
    stage.disconnect("b2=")
    stage.pass_time(60)
    assert stage.heard("a=") == []


def test_a_crowd_is_counted_and_listed_again_when_it_is_small(stage: Stage) -> None:
    for number in range(MAX_LISTED + 1):
        answer = stage.join(f"c{number}=", f"u{number}")
        assert ("users" in answer, answer["listed"]) == ((number < MAX_LISTED,) * 2)
        if number < MAX_LISTED:
            stage.pass_time(0)
    assert answer["count"] == MAX_LISTED + 1
    stage.heard("c0=")
    stage.pass_time(60)
    assert [told for told, *_ in stage.heard("c0=")] == ["presence:count"]
    for number in range(MAX_LISTED, LISTED_AGAIN, -1):
        stage.disconnect(f"c{number}=")
    stage.pass_time(GRACE + 60)
    [(event, _, count)] = stage.heard("c0=")
    assert (event, count) == ("presence:count", LISTED_AGAIN + 1)
    assert "users" not in stage.act("c0=", "rooms:presence", room=ROOM)
    stage.disconnect(f"c{LISTED_AGAIN}=")
    stage.pass_time(GRACE + 60)
    [(_, data)] = stage.got.pop("c0=")
    assert (data["count"], data["listed"]) == (LISTED_AGAIN, True)
    here = stage.act("c0=", "rooms:presence", room=ROOM)
    assert (len(here["users"]), here["version"]) == (LISTED_AGAIN, data["version"])
    stage.join("c1b=", "new")
    stage.pass_time(1)
    assert stage.heard("c0=") == [("presence:joined", data["version"] + 1, "new")]


def test_a_kind_may_only_count(stage: Stage) -> None:
    stage = Stage(KIND._replace(presence="count"))
    assert stage.join("a=", "ann") == {"version": 0, "count": 1, "listed": False}
    for number in range(20):
        stage.join(f"c{number}=", f"u{number}")
    stage.pass_time(COUNT_SECONDS + 1)
    assert stage.heard("a=") == [("presence:count", 1, 21)]
    here = stage.service.presence(ROOM)
    assert here == Presence(1, 21, None)


def test_a_lost_disconnect_haunts_a_room_for_two_hours_at_most(stage: Stage) -> None:
    stage.join("b=", "bob")
    stage.pass_time(1)
    stage.gone.add("b=")  # and no `$disconnect` comes
    stage.pass_time(LONGEST + 100)
    assert [user["id"] for user in stage.join("a=", "ann")["users"]] == ["ann"]
    stage.pass_time(GRACE + 2)  # the post to the join's members finds the connection gone, and notes it
    assert {("presence:left", "bob"), ("presence:joined", "ann")} == {
        (event, user) for event, _, user in stage.heard("a=")
    }


def test_a_probe_finds_those_who_have_gone_in_silence(stage: Stage) -> None:
    for connection_id, user in (("a=", "ann"), ("b=", "bob")):
        stage.join(connection_id, user)
    stage.pass_time(30)
    stage.heard("a=")
    stage.gone.add("b=")
    assert stage.service.presence(ROOM) == Presence(2, 2, {"ann": "Ann", "bob": "Bob"})
    stage.service.presence(ROOM, probe=True)
    stage.pass_time(GRACE + 1)
    assert stage.heard("a=") == [("presence:left", 3, "bob")]
    assert stage.service.presence(ROOM) == Presence(3, 1, {"ann": "Ann"})


def test_who_has_a_connection_is_online(stage: Stage) -> None:
    stage.connect("a=", "ann")
    stage.connect("b=", "bob")
    stage.disconnect("b=")
    assert stage.service.online(["ann", "bob", "cat"]) == {"ann"}
    stage.now += LONGEST + 100  # however long its token is good for
    assert stage.service.online(["ann"]) == frozenset()


def test_a_room_without_presence_says_nothing_and_costs_nothing(stage: Stage) -> None:
    stage.connect("a=", "ann")
    stage.store.size.last()
    stage.db.calls.clear()
    [entry] = stage.act("a=", "rooms:join", rooms=[{"room": "lobby"}])["rooms"]
    assert "presence" not in entry
    assert stage.db.calls == {"UpdateItem": 1, "TransactWriteItems": 1}
    assert stage.act("a=", "rooms:presence", room="lobby")["code"] == "no_presence"
    assert stage.act("a=", "rooms:presence", room=ROOM)["code"] == "not_a_member"
    assert stage.service.presence("lobby") is None
    stage.db.calls.clear()
    stage.disconnect("a=")
    assert stage.db.calls == {"UpdateItem": 1, "BatchWriteItem": 1, "DeleteItem": 1}
    assert stage.jobs == []


def test_landinghubs_reply_has_no_key_more_unless_it_is_asked_for(stage: Stage) -> None:
    stage.wiring.application = APP
    stage.store.members.grant(APP.rooms.parse(ROOM), "ann")
    stage.connect("a=", "ann")
    assert stage.act("a=", "chat:join_room", roomId="r1") == {"roomId": "r1", "success": True}
    answer = stage.act("a=", "chat:join_room", roomId="r1", position=True)
    assert [user["id"] for user in answer["presence"]["users"]] == ["ann"]


def test_a_look_that_dies_before_the_room_is_told_is_made_up_for(stage: Stage) -> None:
    stage.join("a=", "ann")
    job = PresenceJob(ROOM, "ann").dump()
    posting, stage.post_pages = stage.post_pages, None  # type: ignore[method-assign,assignment]
    assert not stage.run(job)
    stage.post_pages = posting  # type: ignore[method-assign]
    assert stage.run(job, receives=2)
    assert stage.heard("a=") == [("presence:joined", 1, "ann")]


def test_a_join_that_could_not_note_it_is_answered_and_made_up_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomcast.aws.PATIENCE", 0.2)
    stage.connect("a=", "ann")
    stage.act("a=", "ping")
    stage.now += 1
    down = itertools.chain([None], itertools.repeat(Fault.THROTTLED))
    stage.db.fault = lambda name: next(down) if name == "UpdateItem" else None
    [entry] = stage.act("a=", "rooms:join", rooms=[{"room": ROOM}])["rooms"]
    assert (entry["success"], "presence" in entry) == (True, False)
    stage.db.fault = lambda _: None
    stage.now += 1
    assert [user["id"] for user in stage.act("a=", "rooms:presence", room=ROOM)["users"]] == ["ann"]
    stage.pass_time(1)
    assert stage.heard("a=") == [("presence:joined", 1, "ann")]


def test_lists_that_have_no_place_in_an_answer_are_asked_for(stage: Stage) -> None:
    for number in range(MAX_LISTED - 1):
        stage.connect(f"c{number}=", f"{number:064d}")
        stage.act(f"c{number}=", "rooms:join", rooms=[{"room": ROOM}])
    answer = stage.join("a=", "ann")
    assert (answer["listed"], answer["count"], "users" in answer) == (True, MAX_LISTED, False)
    assert len(stage.act("a=", "rooms:presence", room=ROOM)["users"]) == MAX_LISTED


def test_a_job_for_a_room_of_no_kind_is_bad() -> None:
    with pytest.raises(JobError):
        parse(PresenceJob("no room", "ann").dump(), Rooms([KIND]))
