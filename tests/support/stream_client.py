"""What a client does with streams, as a pure model: an event goes in, what the client does comes out.

`tests/scenarios/README.md` lists the events and the outputs. The browser client runs the same scenarios.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Output = Json
Place = tuple[str, int]
"""Epoch and number."""
_MANY = 20_000  # members, who do not all ask after the usual window


@dataclass
class _Room:
    """What the client knows of one room."""

    name: str
    position: Place | None = None
    joining: bool = False
    inside: bool = False
    last_value: bool = False
    members: int = 0  # about, as the join has said
    held: dict[Place, str] = field(default_factory=dict)
    head: Place | None = None  # of the stream, as far as it is known
    waiting: bool = False  # for what may still overtake
    asking: bool = False
    asked: Place = ("", 0)  # the position that the last question was put with
    recovering: bool = False  # it had a position when it began to join
    count: int = 0  # of messages that this recovery has brought

    def forget_connection(self) -> None:
        self.joining = self.inside = self.waiting = self.asking = False
        self.held.clear()
        self.head = None

    @property
    def behind(self) -> bool:
        if self.held:
            return True
        if self.head is None or self.position is None:
            return False
        return self.head[0] != self.position[0] or self.head[1] > self.position[1]


class StreamClient:
    """One page with its streams.

    Args:
        done: is called with each output when it happens.
    """

    def __init__(self, done: Callable[[Output], None] | None = None) -> None:
        self._rooms: dict[str, _Room] = {}
        self._out: list[Output] = []
        self._done = done

    @property
    def positions(self) -> dict[str, Json]:
        """The position of each room that the client has one in."""
        return {
            name: {"epoch": room.position[0], "seq": room.position[1]}
            for name, room in self._rooms.items()
            if room.position is not None
        }

    def handle(self, event: Json) -> list[Output]:
        """Take one event, and return what the client does, in order."""
        self._out = []
        (kind,) = event.keys() - {"handover"}
        if kind == "opened":
            self._opened(event["opened"], handover=event.get("handover", False))
        else:
            getattr(self, f"_{kind}")(event[kind])
        return self._out

    def _emit(self, **output: Any) -> None:
        self._out.append(output)
        if self._done is not None:
            self._done(output)

    def _opened(self, wanted: Iterable[Json], *, handover: bool) -> None:
        asked = []
        for want in wanted:
            room = self._rooms.setdefault(want["room"], _Room(want["room"]))
            if "since" in want and room.position is None:
                room.position = _place(want["since"])
            entry: Json = {"room": room.name}
            if not (handover and room.inside):  # the first connection still brings everything
                room.forget_connection()
                room.joining, room.count, room.recovering = True, 0, room.position is not None
                if room.position is not None:
                    entry["since"] = _json(room.position)
            asked.append(entry)
        self._emit(join=asked)

    def _joined(self, entry: Json) -> None:
        room = self._rooms.get(entry["room"])
        if room is None:  # it has left meanwhile
            return
        if not entry["success"]:
            room.forget_connection()
            if entry["code"] != "unavailable":
                room.position = None
        elif "epoch" not in entry:
            room.joining, room.inside = False, True
        elif room.inside:  # the second connection of a handover
            self._learn(room, _place(entry))
        else:
            room.last_value = entry.get("history", {}).get("messages") == 1
            room.members = entry.get("members", 0)
            self._answer(room, entry)

    def _history(self, answer: Json) -> None:
        room = self._rooms.get(answer["room"])
        if room is not None and room.asking:
            room.asking = False
            passed = room.asked != room.position and room.asked is not None and answer["seq"] >= room.asked[1]
            if not answer["recovered"] and passed and room.asked[0] == answer["epoch"] and room.inside:
                self._learn(
                    room, _place(answer)
                )  # late messages have come: what is still missing is asked for
            else:
                self._answer(room, answer)

    def _answer(self, room: _Room, answer: Json) -> None:
        """Take a page, or learn that there is none."""
        head = _place(answer)
        room.head = None
        known = room.position
        if room.last_value:
            for message in answer["messages"]:
                if known is None or known[0] != head[0] or message["seq"] > known[1]:
                    self._deliver(room, (head[0], message["seq"]), message["id"])
            if known is None or known[0] != head[0] or head[1] > known[1]:
                room.position = head
        elif known is None:
            room.position = head
        elif not answer["recovered"] or head[0] != known[0]:
            self._emit(gap=room.name)
            room.position, room.recovering = head, False
        else:
            for message in answer["messages"]:
                self._next(room, (head[0], message["seq"]), message["id"])
            if answer.get("more"):
                return self._ask(room)
            if room.position is not None and head[1] > room.position[1]:
                room.head = head
        if room.joining:
            room.joining, room.inside = False, True
            if room.recovering:
                self._emit(recovered={"room": room.name, "count": room.count})
        assert room.position is not None
        epoch = room.position[0]
        room.held = {place: id_ for place, id_ in room.held.items() if place[0] == epoch}
        self._flush(room)
        return None

    def _message(self, message: Json) -> None:
        room = self._rooms.get(message["room"])
        if "seq" not in message or (room is None and message["room"] == "all"):
            self._emit(deliver=dict(message))  # everybody gets what is sent to `all`
            return
        if room is None or not (room.joining or room.inside):
            return
        room.held[_place(message)] = message["id"]
        if room.inside:
            self._flush(room)

    def _flush(self, room: _Room) -> None:
        """Deliver what is next; wait for what may still come."""
        assert room.position is not None
        for place in sorted(room.held):
            if place[0] == room.position[0]:
                if room.last_value and place[1] > room.position[1]:
                    self._deliver(room, place, room.held[place])
                self._next(room, place, room.held[place])
                if place[1] <= room.position[1]:
                    del room.held[place]
        room.waiting = room.behind and not room.asking

    def _next(self, room: _Room, place: Place, id_: str) -> None:
        if room.position == (place[0], place[1] - 1):
            self._deliver(room, place, id_)

    def _deliver(self, room: _Room, place: Place, id_: str) -> None:
        room.position = place
        room.count += room.joining
        self._emit(deliver={"room": room.name, "seq": place[1], "id": id_})

    def _ask(self, room: _Room) -> None:
        assert room.position is not None
        room.asking, room.waiting, room.asked = True, False, room.position
        self._emit(ask={"room": room.name, "since": _json(room.position)})

    def _learn(self, room: _Room, head: Place) -> None:
        if room.head is None or room.head[0] != head[0] or head[1] > room.head[1]:
            room.head = head
        room.waiting = room.behind and not room.asking

    def _pong(self, heads: Json) -> None:
        for name, head in heads.items():
            room = self._rooms.get(name)
            if room is not None and room.inside and room.position is not None:
                self._learn(room, _place(head))

    def _wait(self, length: str) -> None:
        for room in self._rooms.values():
            if room.waiting and (length == "long" or (length == "usual" and room.members < _MANY)):
                self._ask(room)

    def _failed(self, name: str) -> None:
        room = self._rooms.get(name)
        if room is not None and room.asking:
            room.waiting, room.asking = True, False

    def _closed(self, _: bool) -> None:
        for room in self._rooms.values():
            room.forget_connection()

    def _left(self, name: str) -> None:
        self._rooms.pop(name, None)


def _place(position: Json) -> Place:
    return (position["epoch"], position["seq"])


def _json(place: Place) -> Json:
    return {"epoch": place[0], "seq": place[1]}
