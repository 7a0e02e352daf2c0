"""Judges records of what clients and backends did with streams: each invariant holds, or what breaks it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from roomcast_dev.records import BACKEND, CLIENT, Place, Record

INVARIANTS = {
    1: "one order",
    2: "nothing is lost in silence",
    3: "once",
    4: "no leak",
    5: "a send with an id is one message",
    6: "no number without a message",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A contradiction.

    Attributes:
        invariant: which one is broken, a key of `INVARIANTS`.
        message: a sentence.
        excerpt: the records that contradict each other, and no others.
    """

    invariant: int
    message: str
    excerpt: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the records prove.

    Attributes:
        violations: in the order in which they were found.
        clients: how many there are.
        rooms: how many there are.
        appended: sends that returned, each id counted once.
        delivered: messages that callbacks got.
        gaps: how many were told.
    """

    violations: tuple[Violation, ...]
    clients: int
    rooms: int
    appended: int
    delivered: int
    gaps: int


def check(records: Iterable[Record], *, complete: bool = False, gaps: bool = True) -> Verdict:
    """Prove the invariants, or find what contradicts them.

    Args:
        records: of each client in its own order.
        complete: whether the run had come to rest when it ended, so that a client that is in a room must have
            all of it.
        gaps: whether a gap may be; with False each one is a violation, for a run in which nothing was kept
            from a client for longer than the retention.
    """
    checker = _Checker(gaps=gaps)
    records = list(records)
    for record in records:
        if record.fields["what"] in BACKEND:
            checker.backend(record)
    for record in records:
        if record.fields["what"] in CLIENT:
            checker.client(record)
    checker.end(complete=complete)
    return checker.verdict()


@dataclass
class _Stay:
    """A client's life in one room."""

    member: bool = False
    last_value: bool = False
    joined: Place | None = None  # when it last became one
    position: Place | None = None  # None: not known
    last: Record | None = None  # that gave the position
    owed: Record | None = None  # a join that has to be followed by a gap
    gap: Record | None = None  # the last thing that was told
    before_gap: Place | None = None
    seen: dict[Place, Record] = field(default_factory=dict)

    def stand(self, place: Place | None, record: Record) -> None:
        self.position, self.last = place, record


class _Checker:
    def __init__(self, *, gaps: bool) -> None:
        self._gaps_allowed = gaps
        self._violations: list[Violation] = []
        self._messages: dict[tuple[str, Place], Record] = {}  # who said first what is under a number
        self._ids: dict[tuple[str, str], Record] = {}
        self._appended: dict[tuple[str, str], Record] = {}
        self._rights: dict[tuple[str, str], list[Record]] = {}
        self._stays: dict[tuple[str, str], _Stay] = {}
        self._users: dict[str, str] = {}
        self._clients: set[str] = set()
        self._rooms: set[str] = set()
        self._tops: dict[str, dict[str, Record]] = {}  # of each room and epoch: the newest that was sent
        self._delivered = self._gaps = 0

    def verdict(self) -> Verdict:
        return Verdict(
            tuple(self._violations),
            len(self._clients),
            len(self._rooms),
            len(self._appended),
            self._delivered,
            self._gaps,
        )

    def _find(self, invariant: int, message: str, *excerpt: Record | None) -> None:
        records = {id(record): record for record in excerpt if record is not None}
        self._violations.append(Violation(invariant, message, tuple(records.values())))

    # Backends

    def backend(self, record: Record) -> None:
        what = record.fields["what"]
        self._rooms.add(record.room)
        if what == "appended":
            message_id = record.fields["id"]
            self._named(record, record.place, message_id)
            self._appended.setdefault((record.room, message_id), record)
            self._top(record)
        elif what == "history":
            self._kept(record)
        else:
            self._rights.setdefault((record.fields["user"], record.room), []).append(record)

    def _named(self, record: Record, place: Place, message_id: str) -> bool:
        """Two records agree about a number and about an id."""
        room = record.room
        other = self._messages.setdefault((room, place), record)
        if (known := _id_at(other, place)) != message_id:
            self._find(1, f"{room} {_text(place)} is {known!r} and also {message_id!r}", other, record)
            return False
        first = self._ids.setdefault((room, message_id), record)
        there = _place_of(first, message_id)
        if there[0] == place[0] and there != place:
            where = f"at {_text(there)} and also at {_text(place)}"
            sent = first.fields["what"] == record.fields["what"] == "appended"
            self._find(5 if sent else 1, f"{room}: the message {message_id!r} is {where}", first, record)
            return False
        return True

    def _top(self, record: Record) -> None:
        top = self._tops.setdefault(record.room, {}).setdefault(record.fields["epoch"], record)
        if record.fields["seq"] > top.fields["seq"]:
            self._tops[record.room][record.fields["epoch"]] = record

    def _kept(self, record: Record) -> None:
        epoch, head = record.place
        numbers = [message["seq"] for message in record.fields["messages"]]
        for message in record.fields["messages"]:
            self._named(record, (epoch, message["seq"]), message["id"])
        for expected, seq in enumerate(numbers, numbers[0] if numbers else 0):
            if seq != expected:
                self._find(
                    6, f"{record.room} {_text((epoch, expected))} is a number without a message", record
                )
                return
        if numbers and numbers[-1] != head:
            without = _text((epoch, numbers[-1] + 1))
            self._find(6, f"{record.room} {without} is a number without a message", record)

    # Clients

    def client(self, record: Record) -> None:
        who, what = record.fields["who"], record.fields["what"]
        self._clients.add(who)
        if what == "closed":
            for (other, _), stay in self._stays.items():
                if other == who:
                    stay.member = False
            return
        self._rooms.add(record.room)
        stay = self._stays.setdefault((who, record.room), _Stay())
        if user := record.fields.get("user"):
            self._users[who] = user
        if what == "gap":
            self._gap(who, record, stay)
            return
        if stay.owed is not None:
            self._owes(who, stay, stay.owed)
        if what == "joined":
            self._joined(who, record, stay)
        elif what == "delivered":
            self._deliver(who, record, stay)
        else:
            self._stays[who, record.room] = _Stay(seen=stay.seen)
        stay.gap = None

    def _owes(self, who: str, stay: _Stay, owed: Record) -> None:
        message = f"{who} was not given everything in {owed.room}, and no gap was told"
        self._find(2, message, stay.last, owed)
        stay.stand(owed.place, owed)
        stay.owed = None

    def _joined(self, who: str, record: Record, stay: _Stay) -> None:
        fields = record.fields
        stay.member, stay.joined = True, record.place
        stay.last_value = fields.get("lastValue", stay.last_value)
        if "since" in fields and stay.position is None:
            stay.stand((fields["since"]["epoch"], fields["since"]["seq"]), record)
        if stay.last_value:
            if fields["wasRecovering"] and not fields["recovered"]:  # the newest has expired
                stay.stand(record.place, record)
            return
        if not fields["recovered"]:
            if fields["wasRecovering"]:
                stay.owed = record
            elif stay.position is None:
                stay.stand(record.place, record)
        elif stay.position is not None and stay.position[0] != record.place[0]:
            message = f"{who} is told that {record.room} was recovered, from {_text(stay.position)}"
            self._find(2, f"{message} into another epoch", stay.last, record)

    def _gap(self, who: str, record: Record, stay: _Stay) -> None:
        self._gaps += 1
        room = record.room
        if not self._gaps_allowed:
            self._find(2, f"{who} was told a gap in {room}", stay.last, stay.owed, record)
        elif stay.gap is not None and not _goes_on(stay.gap, record):
            self._find(2, f"{who} was told the same gap in {room} twice", stay.gap, record)
        stay.before_gap = stay.position
        if "seq" in record.fields and "epoch" in record.fields:
            stay.stand(record.place, record)
        else:
            stay.stand(stay.owed.place if stay.owed is not None else None, record)
        stay.gap, stay.owed = record, None

    def _deliver(self, who: str, record: Record, stay: _Stay) -> None:
        self._delivered += 1
        room, place = record.room, record.place
        self._named(record, place, record.fields["id"])
        self._top(record)
        self._allowed(who, record)
        before = stay.seen.setdefault(place, record)
        if before is not record:
            self._find(3, f"{who} got {room} {_text(place)} twice", before, record)
            return
        if stay.gap is not None and stay.before_gap == (place[0], place[1] - 1):
            self._find(2, f"{who} was told a gap in {room} where nothing is missing", stay.gap, record)
        elif stay.position is not None:
            self._in_turn(who, record, stay, stay.position)
        stay.stand(place, record)

    def _in_turn(self, who: str, record: Record, stay: _Stay, position: Place) -> None:
        room, place = record.room, record.place
        told = f"{who} got {room} {_text(place)} after {_text(position)}"
        if place[0] != position[0]:
            if not stay.last_value:
                self._find(2, f"{told}, and no gap was told", stay.last, record)
        elif place[1] <= position[1]:
            self._find(1, told, stay.last, record)
        elif place[1] > position[1] + 1 and not stay.last_value:
            self._missing(who, room, (position[0], position[1] + 1), stay.last, record)

    def _missing(self, who: str, room: str, lost: Place, *excerpt: Record | None) -> None:
        sent = self._messages.get((room, lost))
        self._find(2, f"{who} did not get {room} {_text(lost)}, and no gap was told", sent, *excerpt)

    def _allowed(self, who: str, record: Record) -> None:
        """The last grant or revocation before a message says whether its user may have it."""
        rights = [
            right
            for right in self._rights.get((self._users.get(who, ""), record.room), [])
            if right.place[0] == record.place[0]
        ]
        rights.sort(key=lambda right: right.place[1])
        before = [right for right in rights if right.place[1] < record.place[1]]
        if before:
            if before[-1].fields["what"] == "revoked":
                message = f"{who} got {record.room} {_text(record.place)} after a revocation"
                self._find(4, message, before[-1], record)
        elif rights and rights[0].fields["what"] == "granted":
            message = f"{who} got {record.room} {_text(record.place)} from before its grant"
            self._find(4, message, rights[0], record)

    def _was_put_out(self, who: str, room: str, stay: _Stay) -> bool:
        """Whether a revocation has ended the membership, of which the client hears nothing."""
        return any(
            right.fields["what"] == "revoked"
            and stay.joined is not None
            and right.place[0] == stay.joined[0]
            and right.place[1] >= stay.joined[1]
            for right in self._rights.get((self._users.get(who, ""), room), [])
        )

    def end(self, *, complete: bool) -> None:
        """Judge what is missing at the end, if the run had come to rest."""
        for (who, room), stay in self._stays.items() if complete else ():
            if stay.owed is not None:
                self._owes(who, stay, stay.owed)
            top = self._tops.get(room, {}).get(stay.position[0]) if stay.position else None
            if self._was_put_out(who, room, stay):
                continue
            if stay.member and stay.position and top is not None and top.place[1] > stay.position[1]:
                lost = top.place if stay.last_value else (stay.position[0], stay.position[1] + 1)
                self._missing(who, room, lost, stay.last, top)


def _id_at(record: Record, place: Place) -> str:
    """The message that a record says is at a place."""
    if record.fields["what"] != "history":
        return str(record.fields["id"])
    return next(str(m["id"]) for m in record.fields["messages"] if m["seq"] == place[1])


def _place_of(record: Record, message_id: str) -> Place:
    """Where a record says that a message is."""
    if record.fields["what"] != "history":
        return record.place
    return record.place[0], next(m["seq"] for m in record.fields["messages"] if m["id"] == message_id)


def _text(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def _goes_on(gap: Record, later: Record) -> bool:
    """Whether a second gap is about messages behind the first, none of which was delivered."""
    if "epoch" not in gap.fields or "epoch" not in later.fields:
        return False
    return gap.place[0] != later.place[0] or gap.place[1] < later.place[1]
