"""Joins and leaves of a connection, and word of them to other services, where the stage wants that."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from roomcast.connection import Connection
from roomcast.rooms import Room, needs_grant
from roomcast.wiring import Wiring


def join(wiring: Wiring, connection: Connection, room: Room) -> bool:
    """Make a connection a member of a room: see `Members.join`."""
    with _joining(wiring, connection, 1) as begun:
        joined = wiring.store.members.join(connection, room, needs_grant=needs_grant(connection.role, room))
        if joined and joined != "superseded":
            begun.append(_facts(connection, room.name))
    return bool(joined)


def join_all(wiring: Wiring, connection: Connection, rooms: Mapping[Room, bool]) -> dict[str, bool]:
    """Make a connection a member of several rooms: see `Members.join_all`."""
    with _joining(wiring, connection, len(rooms)) as begun:
        settled = wiring.store.members.join_all(connection, rooms)
        begun += [_facts(connection, name) for name, success in settled.items() if success]
    return settled


def leave(wiring: Wiring, connection: Connection, room: Room) -> None:
    """End a membership: see `Members.leave`."""
    if wiring.store.members.leave(connection.connection_id, room, connection.asked):
        user_id, connection_id = connection.user_id, connection.connection_id
        wiring.ended(user_id, [room.name], connection_id, closed=False, asked=connection.asked)


def _joining(
    wiring: Wiring, connection: Connection, most: int
) -> AbstractContextManager[list[Mapping[str, object]]]:
    """A block in which the connection joins rooms. One that it is in already is reported too: what was read
    of the connection may be older than a leave."""
    return wiring.beginning("joined", connection.user_id, connection.connection_id, most=most)


def _facts(connection: Connection, room: str) -> Mapping[str, object]:
    return {"room": room, "asked": connection.asked}
