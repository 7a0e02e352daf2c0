"""The state machine finds faults: each one below with its own message, in the examples that the sound code
passes.

A fault needs a certain few things to happen. So that a few hundred examples are enough, the machine has only
the rules, bad days and pauses that it needs; the model and what must hold are always the same.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest import mock

import pytest

from roomcast.connection import Connection, Identity, Receiver
from roomcast.rooms import Room, Rooms
from roomcast.sending.job import PostJob
from roomcast.sending.sender import Sender, SendReport
from roomcast.sending.worker import Worker
from roomcast.service import WebSocketService
from roomcast.store import Store
from roomcast.store.connections import Connections
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import connection_key, membership_keys
from roomcast.store.members import Members
from roomcast.store.receivers import Receivers
from tests.support.core_machine import INDEX_LAG, SKEW, TOKEN_SECONDS, World
from tests.support.queue_model import VISIBILITY
from tests.support.stepping import run_machine

EXAMPLES = 120
_RULE = "hypothesis_stateful_rule"  # the attribute by which Hypothesis knows its rules


# Connections


class KeepsNoTombstone(Connections):
    """Its `$disconnect` comes first, and nothing keeps the connection out."""

    def disconnect(self, connection_id: str, accepted_at: float | None = None) -> None:
        self._end(connection_id)


class LooksOnceAtTheItem(Connections):
    """Does not look again where the connect has come between its own two writes (M2)."""

    def disconnect(self, connection_id: str, accepted_at: float | None = None) -> None:
        with mock.patch.object(self, "_end", _second_time(self._end)):
            super().disconnect(connection_id, accepted_at)


def _second_time(end: Any) -> Any:
    looks: list[bool] = []

    def look(connection_id: str) -> bool:
        looks.append(len(looks) > 0 or end(connection_id))
        return looks[-1]

    return look


class DeletesTheItemFirst(Connections):
    """Memberships go last, and a function that dies in between leaves them (M1)."""

    def _end(self, connection_id: str, connected_at: str | None = None, found_in: Iterable[str] = ()) -> bool:
        with suppress(ConditionFailedError):
            item = self._tables.write(
                self._tables.client.delete_item,
                TableName=self._tables.connections,
                Key=connection_key(connection_id),
                ConditionExpression="attribute_exists(userId)",
                ReturnValues="ALL_OLD",
            )["Attributes"]
            self._tables.delete_rows(membership_keys(connection_id, item))
            return True
        return False


class ExtendsOnlyTheItem(Connections):
    """`auth:refresh` forgets the memberships (L14)."""

    def extend(self, connection: Connection, identity: Identity) -> bool:
        return super().extend(connection._replace(rooms=frozenset()), identity)

    def get(self, connection_id: str) -> Connection | None:
        connection = super().get(connection_id)
        return connection and connection._replace(rooms=frozenset())


# Members


class JoinsWithoutLooking(Members):
    """Writes the member with no condition, and not into the connection's list."""

    def join(self, connection: Connection, room: Room, *, needs_grant: bool) -> bool | Literal["superseded"]:
        put = self._join(connection, [(room, False, False)])[2]["Put"]
        self._tables.write(self._tables.client.put_item, **put)
        return True


class JoinsWithoutGrant(Members):
    """Lets everybody in."""

    def join(self, connection: Connection, room: Room, *, needs_grant: bool) -> bool | Literal["superseded"]:
        del needs_grant
        return super().join(connection, room, needs_grant=False)


# Receivers


class TakesAllForOpen(Receivers):
    """A 410 always means gone."""

    def pages_of_everybody(self, **more: Any) -> Iterator[list[Receiver]]:
        for page in super().pages_of_everybody(**more):
            yield [receiver._replace(was_open=True) for receiver in page]


class ReadsOnePage(Receivers):
    """A room is one page."""

    def pages_of_room(self, room: Room, **_: Any) -> Iterator[list[Receiver]]:
        with mock.patch.object(self._tables, "pages", lambda read, **arguments: iter([read(**arguments)])):
            yield from list(super().pages_of_room(room))


class IgnoresExpiry(Tables):
    """Believes that DynamoDB deletes what has expired at once."""

    def alive(self, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (item for item in items if "expiresAt" in item)


_POST = Sender._post

# The service and the worker


class LooksOnce(WebSocketService):
    """Does not wait for the index of users (H6)."""

    def revoke_user(self, user_id: str) -> int:
        self._store.revocations.revoke(user_id)
        return self._end_connections(user_id).closed


class RevokesLater(WebSocketService):
    """Closes connections first, and keeps the user out after that."""

    def revoke_user(self, user_id: str) -> int:
        closed = self.disconnect_user(user_id)
        self._store.revocations.revoke(user_id)
        return closed


class ReportsUnknownAsSent(Sender):
    """Takes no answer for a good one."""

    def _post(self, *arguments: Any) -> SendReport:
        report = _POST(self, *arguments)
        return replace(report, sent=report.sent + report.unknown, unknown=0)


class ReportsFailedAsSent(Sender):
    """Takes a slow client's 429 for a good answer."""

    def _post(self, *arguments: Any) -> SendReport:
        report = _POST(self, *arguments)
        return replace(report, sent=report.sent + report.failed, failed=0)


class PostsWhateverWaited(Worker):
    """A job that has waited is posted as it is (M12)."""

    def _still(self, job: PostJob, read_at: float) -> dict[str, Receiver]:
        return {receiver.connection_id: receiver for receiver in job.receivers}


class ForgetsWhatIsLeft(Worker):
    """The receivers that a job did not reach get no smaller job."""

    def _post(self, job: PostJob, read_at: float) -> None:
        with mock.patch.object(self._queue, "put"):
            super()._post(job, read_at)


@dataclass(frozen=True)
class Seed:
    """A fault, and the machine that has what the fault needs.

    Attributes:
        fault: the faulty class, or the name of a number in the product and a wrong one.
        message: what it is found with.
        rules: of the machine.
        days: its bad days.
        pauses: how long time may pass, in seconds.
        skews: how far the backend's clock may be ahead, in seconds.
    """

    fault: type | tuple[str, object]
    message: str
    rules: str
    days: tuple[object, ...] = ()
    pauses: tuple[float, ...] = (0.1, INDEX_LAG)
    skews: tuple[float, ...] = World.skews

    def machine(self, *, seeded: bool) -> type[World]:
        """The machine, with the fault or without."""
        wanted = {"go_on", *self.rules.split()}
        every = {name: getattr(member, _RULE, None) for name, member in vars(World).items()}
        assert all(every[name] for name in wanted), "there is no such rule"
        # What is not wanted stays a method, and is a rule no more.
        members: dict[str, Any] = {
            name: rule.function for name, rule in every.items() if rule and name not in wanted
        }
        members |= {"bad_days": self.days, "pauses": self.pauses, "skews": self.skews}
        fault = self.fault
        if seeded and isinstance(fault, tuple):
            members["patches"] = dict([fault])
        elif seeded and not isinstance(fault, tuple):
            if issubclass(fault, WebSocketService):
                members["service_class"] = fault
            elif issubclass(fault, Sender):
                members["patches"] = {"roomcast.sending.sender.Sender._post": fault._post}
            elif issubclass(fault, Worker):
                members["worker_class"] = fault
            else:
                members["store_class"] = _store_with(fault)
        return type("Machine", (World,), members)


def _store_with(part: type) -> type[Store]:
    class Faulty(Store):
        def __init__(self, tables: Tables, rooms: Rooms | None = None) -> None:
            if issubclass(part, Tables):
                tables = part(tables.client, tables.connections, tables.rooms, tables.clock)
            super().__init__(tables, rooms)
            for name, kind in (("connections", Connections), ("members", Members), ("receivers", Receivers)):
                if issubclass(part, kind):
                    setattr(self, name, part(tables))

    return Faulty


SEEDS = [
    Seed(KeepsNoTombstone, r"is kept though its \$disconnect came", "connect close disconnect_event"),
    Seed(LooksOnceAtTheItem, r"is kept though its \$disconnect came", "connect close disconnect_event"),
    Seed(
        DeletesTheItemFirst,
        "are members and nobody",
        "close disconnect_event bad_day",
        days=("death",),
    ),
    Seed(ExtendsOnlyTheItem, "did not get it", "refresh send pass_time", pauses=(60.0,)),
    Seed(
        JoinsWithoutLooking,
        "a member without a connection, or the other way round",
        "join leave close disconnect_event",
    ),
    Seed(JoinsWithoutGrant, "has no grant", "permission join"),
    Seed(TakesAllForOpen, "is open and was forgotten", "connect send"),
    Seed(
        ("roomcast.connection.YOUNG_SECONDS", 5),
        "is open and was forgotten",
        "connect send",
        skews=(SKEW,),
    ),
    Seed(ReadsOnePage, "did not get it", "connect join send"),
    Seed(IgnoresExpiry, "got it after its token's end", "send pass_time", pauses=(TOKEN_SECONDS, 21)),
    Seed(
        LooksOnce,
        "is (open|kept) though its user was revoked",
        "connect revoke_user bad_day",
        days=("lag",),
    ),
    Seed(RevokesLater, "is kept though its user was revoked", "connect revoke_user pass_time", pauses=(0.1,)),
    Seed(
        ("roomcast.sending.closing._WAITS", ()),
        "is open and was forgotten",
        "connect revoke_user pass_time",
        pauses=(0.1,),
    ),
    Seed(
        ReportsUnknownAsSent,
        "the report is wrong",
        "send bad_day",
        days=("reset", "taken, then reset"),
    ),
    Seed(ReportsFailedAsSent, "the report is wrong", "send bad_day", days=("slow client",)),
    Seed(
        PostsWhateverWaited,
        "got it after its token's end",
        "send work pass_time",
        pauses=(TOKEN_SECONDS, VISIBILITY + 1),
    ),
    Seed(ForgetsWhatIsLeft, "did not get it", "send work bad_day", days=("reset", "503")),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: getattr(seed.fault, "__name__", str(seed.fault)))
def test_a_seeded_fault_is_found_with_its_own_message(seed: Seed) -> None:
    run_machine(seed.machine(seeded=False), examples=EXAMPLES, at=1, shrink=False)
    with pytest.raises(AssertionError, match=seed.message):
        run_machine(seed.machine(seeded=True), examples=EXAMPLES, at=1, shrink=False)
