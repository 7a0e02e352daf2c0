"""Each rule of streams is needed: without it, the machine or `roomcast check` says what is wrong.

Rules of the append by itself are in `test_history.py`. A fault needs a certain few things to happen. So that
some hundred examples are enough, the machine has only the rules, bad days and pauses that it needs; what must
hold is always the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from roomcast.functions import joining
from roomcast.functions.asked import read_room
from roomcast.sending import coalescing, numbering
from roomcast.sending.audience import ToRoom
from roomcast.sending.worker import Worker
from roomcast.store.history import History
from roomcast.store.items import Grant
from roomcast.store.members import Members
from roomcast.store.replay import Head, Position, Recovery, Replay
from roomcast.store.windows import Windows
from tests.support.stepping import SignedClient, fault_is_found
from tests.support.stream_client import StreamClient, _place, _Room
from tests.support.stream_machine import CHAT, HOUR, System

EXAMPLES = 300
_RULE = "hypothesis_stateful_rule"  # the attribute by which Hypothesis knows its rules


# Append and send (section 3)


class RemembersNoId(History):
    """A second send with the same id is another message."""

    def append(self, stream: str, message_id: str, build: Any, retention: Any, **more: Any) -> Position:
        return super().append(stream, message_id, build, retention, **{**more, "once": False})


class KeepsTheEpoch(History):
    """A restored stream goes on in the epoch that the backup has."""

    def new_epoch(self, stream: str) -> Position:
        return self.position(stream)


_NUMBER = numbering.number


def reads_members_first(store: Any, to: Any, *arguments: Any, **more: Any) -> Any:
    """The receivers are those of the moment before the append."""
    before = list(to.pages(store))
    result = _NUMBER(store, to, *arguments, **more)
    _read_before.append(before)
    return result


_read_before: list[Any] = []
_PAGES = ToRoom.pages


def pages_read_before(self: ToRoom, store: Any, **more: Any) -> Iterator[Any]:
    return iter(_read_before.pop()) if _read_before else _PAGES(self, store, **more)


# Join and recover (section 4)

_RECOVER = Replay.recover
_HEADS = Replay.heads


def recovers_first(wiring: Any, connection: Any, fields: Any) -> Any:
    """The history is read before the membership is written."""
    asked = [read_room(wiring, connection, each) for each in fields["rooms"]]
    good = [each for each in asked if each.refused is None]
    joining._recover(wiring, connection, good)
    for each in good:
        if each.refused is None and each.room is not None:
            connection = joining._join_one(wiring, connection, each, each.room)
    joining._pack(asked)
    return [each.entry() for each in asked]


def takes_any_epoch(
    self: Replay, stream: str, since: Position | None, retention: Any, **more: Any
) -> Recovery:
    """A position is a number."""
    head = more.get("head") or self.position(stream)
    if since is not None:
        since = Position(head.epoch, min(since.seq, head.seq))
    return _RECOVER(self, stream, since, retention, **{**more, "head": head})


def recovers_what_is_left(
    self: Replay, stream: str, since: Position | None, retention: Any, **more: Any
) -> Recovery:
    """A part of what was missed is reported as all of it."""
    found = _RECOVER(self, stream, since, retention, **more)
    if since is None or found.recovered or since.epoch != found.position.epoch:
        return found
    head = found.position
    left = tuple(self._read(stream, head, since.seq + 1, head.seq, retention, None, holes=True))
    return Recovery(found.position, recovered=True, messages=left)


def shows_what_is_old(
    self: Replay, stream: str, since: Position | None, retention: Any, **more: Any
) -> Recovery:
    """What DynamoDB has not deleted yet is shown."""
    return _RECOVER(self, stream, since, retention._replace(seconds=10**6), **more)


def forgets_the_top(self: Replay, streams: Any) -> dict[str, Head]:
    """The read is of a moment ago."""
    found = {name: head.position for name, head in _HEADS(self, streams).items()}
    return {name: Head(Position(at.epoch, max(0, at.seq - 1))) for name, at in found.items()}


def recovers_too_many(
    self: Replay, stream: str, since: Position | None, retention: Any, **more: Any
) -> Recovery:
    """A page without its rest is taken for all."""
    return _RECOVER(self, stream, since, retention, **more)._replace(more=False)


def inconsistent(operation: str, table: str) -> type[SignedClient]:
    """A client whose reads of one kind do not ask for consistency."""

    class Client(SignedClient):
        def __getattr__(self, name: str) -> Any:
            method = super().__getattr__(name)
            if name != operation:
                return method

            def call(**arguments: Any) -> Any:
                if table in arguments.get("RequestItems", {}):
                    arguments["RequestItems"] = {table: {**arguments["RequestItems"][table]}}
                    arguments["RequestItems"][table].pop("ConsistentRead")
                elif arguments.get("TableName") == table:
                    arguments.pop("ConsistentRead", None)
                return method(**arguments)

            return call

    return Client


# Coalescing of last values (section 6)


def looks_before(store: Any, to: Any, *arguments: Any, seen: Any, **more: Any) -> Any:
    """The head is of the moment before the append."""
    before = store.history.head(to.target.name)
    result = _NUMBER(store, to, *arguments, **more)
    seen(before)
    return result


def says_so_first(store: Any, queue: Any, room: Any, seen: Any, clock: Any) -> bool:
    """The head says that there is a job before there is one."""

    class Queue:
        def put(self, jobs: Any, delay: float) -> None:
            store.windows.note_job(room.name, seen, int(clock() + delay) * 1000)
            queue.put(jobs, delay)

    noted: Any = queue and Queue()
    return _IS_POSTED_NOW(store, noted, room, seen, clock)


_IS_POSTED_NOW = coalescing.is_posted_now
_NEXT_TURN = Windows.next_turn


def reads_first(self: Windows, stream: str, turn: int, until: int) -> Head | None:
    """A job reads what is newest, and ends its turn then."""
    before = Replay(self._tables, "history").head(stream)
    there = _NEXT_TURN(self, stream, turn, until)
    return there._replace(position=before.position) if there else None


_POST_NEWEST = Worker._post_newest


def forgets_that_it_comes_again(self: Worker, job: Any, *, again: bool) -> None:
    """A job whose turn has ended has nothing to do."""
    _POST_NEWEST(self, job, again=False)


# Rights (invariant 4)


def shows_all(self: Recovery, grant: Grant | None, since: Position | None) -> Recovery:
    """Whoever may join sees everything."""
    return self


def checks_nothing(wiring: Any, connection: Any, read: Any) -> None:
    """A rejoin reads what it asked for when it was let in."""


def revokes_without_leaving(self: Members, room: Any, user_id: str) -> None:
    """The grant goes, and members stay."""
    from roomcast.store.items import grant_key

    self._tables.write(
        self._tables.client.delete_item, TableName=self._tables.rooms, Key=grant_key(room.name, user_id)
    )


_GRANT = Members.grant


def grants_from_the_start(self: Members, room: Any, user_id: str, begins: Any) -> None:
    """A grant does not say where it begins."""
    _GRANT(self, room, user_id, begins._replace(seq=0) if begins else None)


# The client (section 5)


class HoldsNothing(StreamClient):
    """What comes while the room is being joined is handed out at once."""

    def _message(self, message: Any) -> None:
        room = self._rooms.get(message["room"])
        if room is not None and room.joining and room.position is not None:
            self._deliver(room, _place(message), message["id"])
        else:
            super()._message(message)


class WaitsForNothing(StreamClient):
    """What has overtaken others is handed out as it comes."""

    def _next(self, room: _Room, place: Any, id_: str) -> None:
        if room.position is not None and place[1] > room.position[1]:
            self._deliver(room, place, id_)


class DropsNoRepeat(StreamClient):
    """A number that was handed out is handed out again."""

    def _message(self, message: Any) -> None:
        room = self._rooms.get(message["room"])
        at = room.position if room is not None and room.inside else None
        if at is not None and message["epoch"] == at[0] and message["seq"] <= at[1]:
            self._emit(deliver={"room": message["room"], "seq": message["seq"], "id": message["id"]})
        else:
            super()._message(message)


class ReplaysInAHandover(StreamClient):
    """The new connection asks for a recovery, while the old one goes on."""

    def _joined(self, entry: Any) -> None:
        room = self._rooms.get(entry["room"])
        if room is not None and room.inside and entry["success"]:
            room.joining, room.inside, room.position = True, False, None
        super()._joined(entry)


class AdoptsAnyEpoch(StreamClient):
    """A message of another epoch changes the epoch of the position, and not its number."""

    def _message(self, message: Any) -> None:
        room = self._rooms.get(message["room"])
        if room is not None and room.inside and room.position is not None:
            room.position = (message["epoch"], room.position[1])
        super()._message(message)


class AdoptsTheEpochOfAPong(StreamClient):
    """A pong of another epoch changes the epoch of the position, and not its number."""

    def _pong(self, heads: Any) -> None:
        for name, head in heads.items():
            room = self._rooms.get(name)
            if room is not None and room.inside and room.position is not None:
                room.position = (head["epoch"], room.position[1])
        super()._pong(heads)


class TellsNoGap(StreamClient):
    """A join that is not recovered is taken like a first one."""

    def _emit(self, **output: Any) -> None:
        if "gap" not in output:
            super()._emit(**output)


class TellsGapsTwice(StreamClient):
    """A gap is told by the join and by the application's own look at it."""

    def _emit(self, **output: Any) -> None:
        super()._emit(**output)
        if "gap" in output:
            super()._emit(**output)


class TakesAHoleForAGap(StreamClient):
    """What has not come in the reorder window is given up."""

    def _ask(self, room: _Room) -> None:
        if room.held:
            room.position = min(place for place in room.held if place[0] == (room.position or ("",))[0])
            room.position = (room.position[0], room.position[1] - 1)
            self._flush(room)
        else:
            super()._ask(room)


class StopsAfterAPage(StreamClient):
    """Further pages of a recovery are not asked for: the live messages follow the first one."""

    def _answer(self, room: _Room, answer: Any) -> None:
        super()._answer(room, {**answer, "more": False})
        if answer.get("more") and room.position is not None:
            room.position = _place(answer)


@dataclass(frozen=True)
class Seed:
    """A rule that is left out.

    Attributes:
        rule: as the specification says it.
        fault: a class, or the names in the product that are replaced.
        message: what it is found with.
        rules: of the machine.
        days: its bad days.
        times: how long time may pass, in seconds.
        losses: whether posts get lost.
        examples: in which it is found.
        to: the room that all sends go to; empty: the machine's.
        values: whether all backends have a queue, and a death lets nobody come back: its send
            has not returned.
    """

    rule: str
    fault: type | dict[str, Any]
    message: str
    rules: str
    days: tuple[object, ...] = ()
    times: tuple[float, ...] = (1.0,)
    losses: bool = False
    examples: int = EXAMPLES
    to: str = ""
    values: bool = False

    def machine(self, *, seeded: bool) -> type[System]:
        """The machine, with the fault or without."""
        wanted = {"begin", "go_on", *self.rules.split()}
        every = {name: getattr(member, _RULE, None) for name, member in vars(System).items()}
        assert all(every[name] for name in wanted - {"begin"}), "there is no such rule"
        # What is not wanted stays a method, and is a rule no more.
        members: dict[str, Any] = {
            name: rule.function for name, rule in every.items() if rule and name not in wanted
        }
        members |= {"bad_days": self.days, "times": self.times, "losses": self.losses}
        if self.to:
            members["sent_to"] = (self.to,) * 6
        if self.values:
            members |= {"senders": (2, 3, 3), "harmless": ("death",)}
        if seeded and isinstance(self.fault, dict):
            members["patches"] = self.fault
        elif seeded and isinstance(self.fault, type) and issubclass(self.fault, History):
            members["history_class"] = self.fault
        elif seeded and isinstance(self.fault, type) and issubclass(self.fault, SignedClient):
            members["client_class"] = self.fault
        elif seeded:
            members["page_class"] = self.fault
        return type("Machine", (System,), members)


RECOVER = "roomcast.store.replay.Replay.recover"
COMES_BACK = "connect cut send arrive"
VALUES = "send arrive work pass_time"
SEEDS = [
    Seed(
        "append first, then the members",
        {
            "roomcast.sending.sender.number": reads_members_first,
            "roomcast.sending.audience.ToRoom.pages": pages_read_before,
        },
        "lost in silence",
        "connect cut send arrive",
        to=CHAT,
    ),
    Seed("an id is sent once", RemembersNoId, "a send with an id is one message", "send arrive"),
    Seed(
        "a restored stream has a new epoch",
        KeepsTheEpoch,
        "one order|lost in silence|a gap without a reason",
        "connect cut send arrive_all back_up restore",
    ),
    Seed(
        "membership first, then the read",
        {"roomcast.functions.joining.join_rooms": recovers_first},
        "lost in silence",
        COMES_BACK,
    ),
    Seed(
        "both reads are of now",
        {"roomcast.store.replay.Replay.heads": forgets_the_top},
        "lost in silence|a gap without a reason",
        COMES_BACK,
    ),
    Seed(
        "the heads are read consistently",
        inconsistent("batch_get_item", "history"),
        "lost in silence",
        COMES_BACK + " bad_day",
        days=("stale reads",),
    ),
    Seed(
        "so are the messages",
        inconsistent("query", "history"),
        "a gap without a reason|lost in silence",
        COMES_BACK + " bad_day",
        days=("stale reads",),
    ),
    Seed(
        "so are the members",
        inconsistent("query", "rooms"),
        "lost in silence",
        COMES_BACK + " bad_day",
        days=("stale reads",),
    ),
    Seed(
        "so is everybody",
        inconsistent("scan", "connections"),
        "lost in silence",
        COMES_BACK + " bad_day",
        days=("stale reads",),
        to="all",
    ),
    Seed(
        "a position is epoch and number",
        {RECOVER: takes_any_epoch},
        "lost in silence",
        "connect cut send arrive_all restore",
    ),
    Seed(
        "all or nothing",
        {RECOVER: recovers_what_is_left},
        "lost in silence",
        "connect cut send arrive pass_time expire",
        times=(1800.0, HOUR),
    ),
    Seed(
        "readers apply the retention",
        {RECOVER: shows_what_is_old},
        "is shown after its retention",
        "connect cut send pass_time",
        times=(HOUR, 2 * HOUR),
    ),
    Seed(
        "more pages follow",
        {RECOVER: recovers_too_many},
        "lost in silence|is behind",
        COMES_BACK + " arrive_all",
    ),
    Seed(
        "nothing from before the grant",
        {"roomcast.store.replay.Recovery.allowed_by": shows_all},
        "from before its grant|after a revocation",
        "connect cut send permission",
    ),
    Seed(
        "a grant has a position",
        {"roomcast.store.members.Members.grant": grants_from_the_start},
        "from before its grant|after a revocation",
        "connect cut send permission",
    ),
    Seed(
        "rights are looked at after the read",
        {"roomcast.functions.joining._check": checks_nothing},
        "after a revocation",
        "connect cut send permission",
    ),
    Seed(
        "a revocation ends memberships",
        {"roomcast.store.members.Members.revoke": revokes_without_leaving},
        "after a revocation",
        "send arrive permission",
    ),
    Seed("live messages wait for the recovery", HoldsNothing, "lost in silence|one order", COMES_BACK),
    Seed("what has overtaken waits", WaitsForNothing, "lost in silence|one order", "send arrive"),
    Seed("a lower number is dropped", DropsNoRepeat, "once|one order", "connect cut send arrive"),
    Seed("a handover replays nothing", ReplaysInAHandover, "lost in silence|once", "connect send arrive"),
    Seed(
        "an epoch comes from a join only",
        AdoptsAnyEpoch,
        "lost in silence",
        "connect cut send arrive_all restore",
    ),
    Seed(
        "and not from a pong",
        AdoptsTheEpochOfAPong,
        "lost in silence",
        "connect cut send arrive_all ping restore",
    ),
    Seed(
        "a gap is told", TellsNoGap, "no gap was told", "connect cut send pass_time", times=(HOUR, 2 * HOUR)
    ),
    Seed("once", TellsGapsTwice, "the same gap", "connect cut send pass_time", times=(HOUR, 2 * HOUR)),
    Seed("a hole is asked for", TakesAHoleForAGap, "lost in silence", "send arrive wait"),
    Seed("and to its end", StopsAfterAPage, "lost in silence", COMES_BACK + " arrive_all"),
    Seed(
        "a send looks at the window when its message counts",
        {"roomcast.sending.sender.number": looks_before},
        "lost in silence",
        VALUES,
        to="dashboard_user_bob",
        values=True,
    ),
    Seed(
        "a job is on the queue before the head says so",
        {"roomcast.sending.sender.is_posted_now": says_so_first},
        "lost in silence",
        VALUES + " bad_day",
        days=("death",),
        to="dashboard_user_bob",
        values=True,
    ),
    Seed(
        "a job ends its turn, and reads then",
        {"roomcast.store.windows.Windows.next_turn": reads_first},
        "lost in silence",
        VALUES,
        examples=900,
        to="dashboard_user_bob",
        values=True,
    ),
    Seed(
        "a job that comes again posts",
        {"roomcast.sending.worker.Worker._post_newest": forgets_that_it_comes_again},
        "lost in silence",
        "send work pass_time bad_day",
        days=("death",),
        examples=1500,
        to="dashboard_user_bob",
        values=True,
    ),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.rule)
def test_a_rule_that_is_left_out_is_found(seed: Seed) -> None:
    _read_before.clear()
    fault_is_found(
        seed.machine(seeded=True),
        seed.machine(seeded=False),
        seed.message,
        examples=seed.examples,
        at=1,
    )
