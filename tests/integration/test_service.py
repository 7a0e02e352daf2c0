"""A send reaches those that it should, and says what became of each."""

import json
import threading
from typing import Any
from uuid import UUID

import pytest

from roomcast import EnvelopeTooLargeError, InvalidDataError, InvalidNameError, SendReport, WebSocketService
from roomcast.store import Store
from tests.builders import ADMINS, chat, identity
from tests.fakes.management_api import FAILING, FORBIDDEN, GONE, OK, THROTTLED, FakeManagementApi

pytestmark = pytest.mark.usefixtures("functions")


@pytest.fixture(autouse=True)
def _people(store: Store) -> None:
    """Ann, an admin, on c1 in the admin dashboard; Bob on c2 and c3, both in chat room r1."""
    for connection_id, user_id, room in (
        ("c1=", "ann", ADMINS),
        ("c2=", "bob", chat("r1")),
        ("c3=", "bob", chat("r1")),
    ):
        store.connections.connect(connection_id, identity(user_id))
        connection = store.connections.get(connection_id)
        assert connection
        store.members.join(connection, room, needs_grant=False)


def counts(report: SendReport) -> dict[str, int]:
    fields = ("sent", "gone", "failed", "unknown", "queued")
    return {field: getattr(report, field) for field in fields if getattr(report, field)}


@pytest.mark.parametrize(
    ("send", "receivers", "room"),
    [
        (lambda s: s.send_to_user("bob", "e", {"n": 1}), {"c2=", "c3="}, "user_bob"),
        (lambda s: s.send_to_room("dashboard_admin", "e", {"n": 1}), {"c1="}, "dashboard_admin"),
        (lambda s: s.send_to_room("chat_room_r1", "e", {"n": 1}), {"c2=", "c3="}, "chat_room_r1"),
        (lambda s: s.broadcast("e", {"n": 1}), {"c1=", "c2=", "c3="}, None),
        (lambda s: s.send_to_connection("c3=", "e", {"n": 1}), {"c3="}, None),
    ],
)
def test_each_send_reaches_its_receivers_in_one_envelope(
    service: WebSocketService, api: FakeManagementApi, send: Any, receivers: set[str], room: str | None
) -> None:
    report = send(service)
    assert counts(report) == {"sent": len(receivers)}
    assert set(api.delivered) == receivers
    [text] = {body for bodies in api.delivered.values() for body in bodies}
    envelope = json.loads(text)
    assert ("seq" in envelope, "epoch" in envelope, report.seq) == (
        (True, True, 1) if room else (False, False, None)
    )
    assert {k: v for k, v in envelope.items() if k not in ("timestamp", "epoch")} == {
        "event": "e",
        "data": {"n": 1},
        "id": report.id,
        **({"room": room, "seq": 1} if room else {}),
    }
    assert UUID(report.id).version == 7


def test_a_send_to_nobody_reports_nobody(service: WebSocketService, api: FakeManagementApi) -> None:
    for report in (
        service.send_to_user("nobody", "e", {}),
        service.send_to_room("chat_room_empty", "e", {}),
    ):
        assert counts(report) == {}
    assert counts(service.send_to_connection("unknown=", "e", {})) == {"gone": 1}
    assert api.requests == []


def test_who_is_gone_is_pruned_and_the_others_get_it(
    service: WebSocketService, api: FakeManagementApi, rows: Any
) -> None:
    api.script("c2=", GONE)
    assert counts(service.send_to_room("chat_room_r1", "e", {})) == {"sent": 1, "gone": 1}
    assert {row["connectionId"] for row in rows("connections")} == {"c1=", "c3="}
    assert {row["member"] for row in rows("rooms")} == {"connection#c1=", "connection#c3="}


def test_who_is_not_open_yet_is_tried_again_and_kept(
    service: WebSocketService, api: FakeManagementApi, store: Store, rows: Any
) -> None:
    store.connections.connect("c4=", identity("eve"))
    api.script("c4=", GONE, GONE, OK)
    assert counts(service.send_to_user("eve", "e", {})) == {"sent": 1}
    store.connections.connect("c5=", identity("eve"))
    api.script("c5=", GONE)
    assert counts(service.send_to_user("eve", "e", {})) == {"sent": 1, "gone": 1}
    assert {"c4=", "c5="} <= {row["connectionId"] for row in rows("connections")}


def test_throttling_and_errors_are_tried_again_and_then_reported(
    service: WebSocketService, api: FakeManagementApi, rows: Any
) -> None:
    api.script("c1=", THROTTLED, FAILING, OK)
    api.script("c2=", FORBIDDEN)
    assert counts(service.broadcast("e", {})) == {"sent": 2, "failed": 1}
    assert len(rows("connections")) == 3


@pytest.mark.parametrize(
    ("send", "error"),
    [
        (lambda s: s.broadcast("e", float("nan")), InvalidDataError),
        (lambda s: s.broadcast("", {}), InvalidDataError),
        (lambda s: s.broadcast("e", "x" * 33_000), EnvelopeTooLargeError),
        (lambda s: s.send_to_room("lobby", "e", {}), InvalidNameError),
        (lambda s: s.send_to_room("chat_room_a/b", "e", {}), InvalidNameError),
        (lambda s: s.send_to_user("a b", "e", {}), InvalidNameError),
        (lambda s: s.send_to_connection("", "e", {}), InvalidNameError),
        (lambda s: s.grant_room("lobby", "bob"), InvalidNameError),
        (lambda s: s.revoke_room("chat_room_r1", ""), InvalidNameError),
        (lambda s: s.create_ticket("a b"), InvalidNameError),
        (lambda s: s.revoke_user(""), InvalidNameError),
    ],
)
def test_what_cannot_be_sent_is_an_error_before_anything_is_posted(
    service: WebSocketService, api: FakeManagementApi, send: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        send(service)
    assert api.requests == []


def test_a_revoked_member_gets_nothing_more(service: WebSocketService, api: FakeManagementApi) -> None:
    service.grant_room("chat_room_r1", "bob")
    service.revoke_room("chat_room_r1", "bob")
    assert counts(service.send_to_room("chat_room_r1", "e", {})) == {}
    assert counts(service.send_to_user("bob", "e", {})) == {"sent": 2}


def test_disconnect_user_closes_all_and_forgets_them(
    service: WebSocketService, api: FakeManagementApi, rows: Any
) -> None:
    api.script("c3=", GONE)
    assert service.disconnect_user("bob") == 1
    assert api.deleted == ["c2="]
    assert {row["connectionId"] for row in rows("connections")} == {"c1="}


def test_threads_share_one_service(service: WebSocketService, api: FakeManagementApi) -> None:
    reports: list[SendReport] = []
    threads = [threading.Thread(target=lambda: reports.append(service.broadcast("e", {}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counts(report) for report in reports] == [{"sent": 3}] * 8
    assert all(len(bodies) == 8 for bodies in api.delivered.values())


@pytest.mark.parametrize("room", ["dashboard_admin", "dashboard_user_u2", "lobby", "chat_room_", 7])
@pytest.mark.parametrize("verb", ["grant_room", "revoke_room"])
def test_only_chat_rooms_take_grants(service: WebSocketService, verb: str, room: Any, rows: Any) -> None:
    before = rows("rooms")
    with pytest.raises(InvalidNameError):
        getattr(service, verb)(room, "u1")
    assert rows("rooms") == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_id": "a b"},
        {"user_id": True},
        {"role": "Admin"},
        {"role": None},
        {"name": 7},
        {"email": None},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": True},
        {"ttl": 60.5},
        {"ttl": float("nan")},
        {"ttl": 10**12},
    ],
)
def test_a_ticket_that_no_connect_could_use_is_not_made(service: WebSocketService, wrong: Any) -> None:
    with pytest.raises(InvalidNameError):
        service.create_ticket(**{"user_id": "u1", **wrong})


def test_a_ticket_has_the_labels_that_a_token_would_have(service: WebSocketService, store: Store) -> None:
    ticket = service.create_ticket("u1", name="山田\u3000太郎\n\ud800", email="x" * 300)
    who = store.tickets.read(ticket)
    assert who
    assert (who.name, who.email) == ("山田\u3000太郎", "x" * 256)


def test_all_admins_get_what_is_sent_to_them_joined_or_not(
    service: WebSocketService, store: Store, api: FakeManagementApi
) -> None:
    for number in range(2):
        store.connections.connect(f"a{number}=", identity(f"admin{number}", "admin"))
    report = service.send_to_admins("admin:status", {"n": 1}, id="once")
    assert (counts(report), report.id) == ({"sent": 2}, "once")
    assert set(api.delivered) == {"a0=", "a1="}
