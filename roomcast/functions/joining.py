"""Rooms of a connection: joins, and what a client missed in them.

The order of a join is what makes it whole: membership first, then the consistent read of the history, and
last whether the user may see it still. A sender appends first, and reads the members then.
"""

import json
import logging
from collections.abc import Iterable, Mapping

from roomcast import aws, metrics
from roomcast.connection import Connection
from roomcast.envelope import MAX_ENVELOPE_BYTES
from roomcast.errors import ActionError, AwsError
from roomcast.functions import memberships
from roomcast.functions.asked import MAX_ROOMS, Asked, forbidden, read_room, room_named, several, to_position
from roomcast.functions.replies import Missed
from roomcast.plain_text import plain
from roomcast.rooms import Retention, Room, inbox, may_join, needs_grant
from roomcast.store.dynamodb import side_by_side
from roomcast.store.replay import Message
from roomcast.wiring import Wiring

MAX_PAGE = 100
"""Messages of one room in one reply."""
_AROUND = 1024  # bytes of a reply for its event, timestamp, `replyTo` and `connection`

log = logging.getLogger(__name__)


def join_rooms(
    wiring: Wiring, connection: Connection, fields: Mapping[str, object]
) -> list[dict[str, object]]:
    """Join up to 50 rooms, each of which is answered by itself.

    Raises:
        ActionError: `invalid_rooms`: it is not a list of rooms.
    """
    asked = [read_room(wiring, connection, each) for each in several(fields, "rooms")]
    connection = _join_all(wiring, connection, asked)
    joined = [each for each in asked if each.refused is None]
    _enter(wiring, connection, joined)
    _recover(wiring, connection, joined)
    _pack(asked)
    return [each.entry() for each in asked]


def leave_rooms(
    wiring: Wiring, connection: Connection, fields: Mapping[str, object]
) -> list[dict[str, object]]:
    """Leave up to 50 rooms, each of which is answered by itself. The inbox cannot be left.

    Raises:
        ActionError: `invalid_rooms`: it is not a list of names.
    """
    asked = [read_room(wiring, connection, {"room": name}) for name in several(fields, "names")]
    for each in asked:
        if each.room == inbox(connection.user_id):
            each.refused = ActionError("forbidden", "The inbox cannot be left")
        elif each.refused is None and each.room is not None:
            memberships.leave(wiring, connection, each.room)
    wiring.left(connection.user_id, [each.room.name for each in asked if each.room and not each.refused])
    return [each.entry() for each in asked]


def join_one(
    wiring: Wiring, connection: Connection, room: Room, since: object = None, *, position: bool = False
) -> Missed:
    """Join one room, for an action of the application.

    Args:
        wiring: of the stage.
        connection: who joins.
        room: which.
        since: the client's position, as it came.
        position: whether it asks where the stream is.

    Returns:
        What the reply says of the history: nothing where there is neither `since` nor `position`.

    Raises:
        ActionError: `invalid_since`, `too_many_rooms`, `forbidden`.
    """
    asked = Asked(room.name, room, to_position(since))
    if not may_join(connection.role, connection.user_id, room):
        raise forbidden()
    join(wiring, connection, room)
    reads = asked.since is not None or position
    _enter(wiring, connection, [asked], reads=reads)
    if not reads:
        return {}
    _recover(wiring, connection, [asked])
    if asked.refused:
        raise asked.refused
    _pack([asked])
    return asked.facts()


def join(wiring: Wiring, connection: Connection, room: Room) -> Connection:
    """Make a connection a member of a room.

    Returns:
        The connection, which has that room.

    Raises:
        ActionError: `too_many_rooms`, `forbidden`.
    """
    if room.kind.is_everybody:
        return connection
    rooms = connection.rooms - {inbox(connection.user_id).name}
    if len(rooms) >= MAX_ROOMS and room.name not in connection.rooms:
        raise ActionError("too_many_rooms", f"A connection is in at most {MAX_ROOMS} rooms")
    if not memberships.join(wiring, connection, room):
        raise forbidden()
    return connection._replace(rooms=connection.rooms | {room.name})


def history(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> dict[str, object]:
    """Read a page of what a room keeps: after a position, before one, or the newest messages.

    Raises:
        ActionError: `invalid_room`, `not_a_member`, `no_history`, `invalid_since`, `invalid_limit`.
    """
    room = room_named(wiring, connection, fields.get("room"))
    if not _is_in(connection, room):
        raise ActionError("not_a_member", "You are not a member of this room")
    store, retention = wiring.store, room.history
    if store.history is None or retention is None:
        raise ActionError("no_history", "This room keeps no history")
    since, before = to_position(fields.get("since")), to_position(fields.get("before"))
    if since and before:
        raise ActionError("invalid_since", "There can be since or before, not both")
    limit = fields.get("limit", MAX_PAGE)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ActionError("invalid_limit", "limit must be a whole number above 0")
    limit, size = min(limit, MAX_PAGE), MAX_ENVELOPE_BYTES - _AROUND - 512
    if since:
        found = store.history.recover(room.name, since, retention, limit=limit, size=size)
    else:
        found = store.history.before(room.name, before, retention, limit=limit, size=size)
    asked = Asked(room.name, room, since)
    asked.recovery = found
    _check(wiring, connection, [asked])
    if asked.refused:
        raise ActionError("not_a_member", "You are not a member of this room")
    _pack([asked])
    facts = asked.facts()
    return {"room": room.name} | {
        key: facts[key] for key in ("epoch", "seq", "recovered", "messages", "more")
    }


def positions(wiring: Wiring, connection: Connection, rooms: object) -> dict[str, object]:
    """Where the streams are of those of these rooms that the connection is in: one BatchGetItem.

    Raises:
        ActionError: `invalid_rooms`, `invalid_room`.
    """
    if not isinstance(rooms, list) or len(rooms) > MAX_ROOMS + 1:
        raise ActionError("invalid_rooms", f"rooms must be a list of at most {MAX_ROOMS + 1} names")
    asked = [room_named(wiring, connection, name) for name in rooms]
    history = wiring.store.history
    if history is None:
        return {}
    found = history.heads(r.name for r in asked if r.history and _is_in(connection, r))
    places = {name: head.position for name, head in found.items()}
    return {name: {"epoch": at.epoch, "seq": at.seq} for name, at in places.items()}


def _join_all(wiring: Wiring, connection: Connection, asked: Iterable[Asked]) -> Connection:
    """Join rooms together, and those one by one that cannot be."""
    own = inbox(connection.user_id)
    wanted = [
        (each, each.room)
        for each in asked
        if each.refused is None and each.room is not None and not each.room.kind.is_everybody
    ]
    places = MAX_ROOMS - len(connection.rooms - {own.name})
    rooms: dict[Room, bool] = {}
    for _, room in wanted:
        if room not in rooms and (room != own or room.name not in connection.rooms):
            places -= room.name not in connection.rooms
            if places >= 0:  # of the others one by one says that there are too many
                rooms[room] = needs_grant(connection.role, room)
    settled = memberships.join_all(wiring, connection, rooms) if len(rooms) > 1 else {}
    joined = {name for name, success in settled.items() if success}
    connection = connection._replace(rooms=connection.rooms | joined)
    for each, room in wanted:
        if not settled.get(room.name, True):
            each.refused = forbidden()
        elif room.name not in settled:
            connection = _join_one(wiring, connection, each, room)
    return connection


def _join_one(wiring: Wiring, connection: Connection, asked: Asked, room: Room) -> Connection:
    """Join a room, unless the connection is there by itself. The others do not fail with it."""
    if room == inbox(connection.user_id) and room.name in connection.rooms:
        return connection
    if aws.seconds_left() <= 0:
        asked.refused = _unavailable()
        return connection
    try:
        return join(wiring, connection, room)
    except ActionError as error:
        asked.refused = error
    except AwsError as error:
        log.warning("not joined connectionId=%s: %s", plain(connection.connection_id), plain(error))
        asked.refused = _unavailable()
    return connection


def _enter(wiring: Wiring, connection: Connection, joined: list[Asked], *, reads: bool = True) -> None:
    """Take note of presence in the rooms that say it."""
    present = {each.room.name: each for each in joined if each.room and each.room.kind.presence != "none"}
    if present:
        from roomcast.functions import presence

        rooms = [each.room for each in present.values() if each.room]
        for name, facts in presence.enter(wiring, connection, rooms, reads=reads).items():
            present[name].presence = facts


def _recover(wiring: Wiring, connection: Connection, joined: list[Asked]) -> None:
    """Read what is missed in rooms that were joined before this."""
    history = wiring.store.history
    kept = [(each, each.room, each.room.history) for each in joined if each.room]
    streams = [(each, room, retention) for each, room, retention in kept if retention]
    if history is None or not streams:
        return
    found = [each for each, _, __ in streams]
    try:
        heads = history.heads(room.name for _, room, __ in streams)

        def read(stream: tuple[Asked, Room, Retention]) -> None:
            each, room, retention = stream
            head, each.members = heads[room.name].position, heads[room.name].members
            if room.kind.is_everybody:
                each.members = wiring.store.size.last()
            each.recovery = history.recover(
                room.name, each.since, retention, limit=MAX_PAGE, size=MAX_ENVELOPE_BYTES, head=head
            )

        failures = side_by_side(read, streams)
        if failures:
            raise failures[0]
        _check(wiring, connection, found)
    except AwsError as error:
        log.warning("not recovered connectionId=%s: %s", plain(connection.connection_id), plain(error))
        for each in found:
            each.refused = _unavailable()
        return
    _count(found)


def _check(wiring: Wiring, connection: Connection, read: list[Asked]) -> None:
    """Take out what the user may not see: a grant may have ended since the join, or begun after a message."""
    with_grant = [e.room for e in read if e.room and needs_grant(connection.role, e.room)]
    kept, grants = wiring.store.members.allowed(connection.user_id, connection.issued_at, with_grant)
    for each in read:
        name = each.room.name if each.room else ""
        if not kept or (each.room in with_grant and name not in grants):
            each.refused, each.recovery = forbidden(), None
        elif each.recovery is not None:
            each.recovery = each.recovery.allowed_by(grants.get(name), each.since)


def _is_in(connection: Connection, room: Room) -> bool:
    return room.kind.is_everybody or room.name in connection.rooms


def _pack(asked: list[Asked]) -> None:
    """Put messages into the entries until the reply is full. What has no room comes by `rooms:history`."""
    rest = MAX_ENVELOPE_BYTES - _AROUND - len(json.dumps([each.entry() for each in asked]))
    for each in asked:
        if each.refused or each.recovery is None:
            continue
        texts = [message.envelope for message in each.recovery.messages]
        # Forwards the first of them come first; of those before a position, the last ones.
        for text in texts:
            rest -= len(text.encode()) + 1
            if rest < 0:
                break
            each.messages.append(json.loads(text))
        each.more = each.recovery.more or len(each.messages) < len(texts)
        rest = max(rest, 0) if len(each.messages) == len(texts) else 0


def _count(read: Iterable[Asked]) -> None:
    """Count the rooms that clients have come back to, and those of them in which messages are lost."""
    back = [each for each in read if each.since is not None and each.recovery is not None]
    if back:
        lost = sum(not each.recovery.recovered for each in back if each.recovery)
        size = sum(_size(each.recovery.messages) for each in back if each.recovery)
        metrics.emit({"Recovered": len(back) - lost, "Gaps": lost, "ReplayBytes": size})


def _size(messages: Iterable[Message]) -> int:
    return sum(len(message.envelope.encode()) for message in messages)


def _unavailable() -> ActionError:
    return ActionError("unavailable", "The room cannot be joined at the moment; try again")
