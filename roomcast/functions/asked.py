"""What clients ask of rooms: names, positions, and what a join answers of each room."""

from collections.abc import Mapping

from roomcast.connection import Connection
from roomcast.errors import ActionError, InvalidNameError
from roomcast.functions.replies import Missed, Present
from roomcast.rooms import Room, may_join
from roomcast.store.replay import Position, Recovery
from roomcast.wiring import Wiring

MAX_ROOMS = 50
"""Of one connection, its inbox not counted, and of one `rooms:join`. Not exact for joins at the same time; it
bounds what a disconnect has to delete."""
MANY_MEMBERS = 100
"""From how many members on the answer to a join says about how many there are."""
_MAX_NAME = 150  # characters of a refused name that the reply repeats
_MAX_EPOCH = 64


class Asked:
    """One room that a client asks for, and what becomes of it.

    Attributes:
        name: as the client gave it.
        room: which it is.
        since: the client's position in it.
        refused: why it is not joined.
        recovery: what it missed; None where the room keeps no history.
        members: about how many the room has; 0 where that is not known.
        presence: who is there; empty where the room does not say it.
        messages: of the recovery, those that the reply has room for.
        more: whether there are others.
    """

    def __init__(self, name: str, room: Room | None = None, since: Position | None = None) -> None:
        self.name = name
        self.room = room
        self.since = since
        self.refused: ActionError | None = None
        self.recovery: Recovery | None = None
        self.members = 0
        self.presence = Present()
        self.messages: list[object] = []
        self.more = False

    def entry(self) -> dict[str, object]:
        """Its part of the reply."""
        name = self.room.name if self.room else self.name
        alias = {"asked": self.name} if name != self.name else {}
        if self.refused:
            why = {"code": self.refused.code, "message": self.refused.message}
            return {"room": name, **alias, "success": False, **why}
        return {"room": name, **alias, "success": True, **self.facts()}

    def facts(self) -> Missed:
        """What a join says of a room's history, and of presence."""
        history = self.room.history if self.room else None
        present: Missed = {"presence": self.presence} if self.presence else {}
        if history is None or self.recovery is None:
            return present
        members: Missed = {"members": self.members} if self.members >= MANY_MEMBERS else {}
        return {
            **present,
            **members,
            "epoch": self.recovery.position.epoch,
            "seq": self.recovery.position.seq,
            "history": {"seconds": history.seconds, "messages": history.messages},
            "wasRecovering": self.since is not None,
            "recovered": self.recovery.recovered,
            "messages": self.messages,
            "more": self.more,
        }


def read_room(wiring: Wiring, connection: Connection, given: object) -> Asked:
    name = given.get("room") if isinstance(given, dict) else None
    # Only what a name may be is repeated, so that the reply stays small.
    shown = name if isinstance(name, str) and len(name) <= _MAX_NAME and name.isascii() else ""
    asked = Asked(shown if shown.isprintable() else "")
    try:
        asked.room = room_named(wiring, connection, name)
        asked.since = to_position(given.get("since") if isinstance(given, dict) else None)
        if not may_join(connection.role, connection.user_id, asked.room):
            raise forbidden()
    except ActionError as error:
        asked.refused = error
    return asked


def room_named(wiring: Wiring, connection: Connection, name: object) -> Room:
    """A room by its name, or by the alias of the client's own.

    Raises:
        ActionError: `invalid_room`.
    """
    try:
        return wiring.store.rooms.called(name, connection.role, connection.user_id)
    except InvalidNameError:
        raise ActionError("invalid_room", "There can be no such room") from None


def to_position(value: object) -> Position | None:
    """Read a position; None where there is none.

    Raises:
        ActionError: `invalid_since`: an epoch or a number is missing or wrong.
    """
    match value:
        case None:
            return None
        case {"epoch": str(epoch), "seq": int(seq)} if not isinstance(seq, bool):
            if 0 < len(epoch) <= _MAX_EPOCH and 0 <= seq < 2**53:
                return Position(epoch, seq)
    raise ActionError("invalid_since", "A position must be an object with epoch and seq")


def several(fields: Mapping[str, object], what: str) -> list[object]:
    given = fields.get("rooms")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_ROOMS:
        raise ActionError("invalid_rooms", f"rooms must be a list of 1 to {MAX_ROOMS} {what}")
    return given


def forbidden() -> ActionError:
    return ActionError("forbidden", "You may not join this room")
