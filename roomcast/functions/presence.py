"""Who is in a room, for clients: what a join notes and answers, and `rooms:presence`."""

import json
import logging
from collections.abc import Iterable

from roomcast.connection import Connection
from roomcast.envelope import MAX_ENVELOPE_BYTES
from roomcast.errors import ActionError, AwsError
from roomcast.functions.replies import Present
from roomcast.names import OBSERVER
from roomcast.plain_text import plain
from roomcast.rooms import Room
from roomcast.sending.job import PresenceJob
from roomcast.store.presence import Presence
from roomcast.wiring import Wiring

MAX_JOIN_BYTES = 8 * 1024
"""Of all lists in the answer of a join; for one that has no place there, a client asks `rooms:presence`."""
_MAX_BYTES = MAX_ENVELOPE_BYTES - 1024

log = logging.getLogger(__name__)


def enter(
    wiring: Wiring, connection: Connection, rooms: Iterable[Room], *, reads: bool = True
) -> dict[str, Present]:
    """Take note that a connection is in rooms, after it has become a member.

    A fault of AWS does not fail the join: the answer has no presence, and the client asks for it.

    Args:
        wiring: of the stage.
        connection: whose.
        rooms: which; those without presence cost nothing.
        reads: whether the answer says who is there.

    Returns:
        What the answer says, by the rooms' names.
    """
    found: dict[str, Present] = {}
    rest = MAX_JOIN_BYTES
    jobs: list[PresenceJob] = []
    try:
        for room in rooms:
            if room.kind.presence == "none":
                continue
            seen = connection.user_id != OBSERVER  # `roomcast tail` is nobody
            if seen and wiring.store.presences.enter(room, connection.user_id, connection.name):
                jobs.append(PresenceJob(room.name, connection.user_id))
            if reads:
                here, odd = wiring.store.presences.read(room)
                jobs += [PresenceJob(room.name, user) for user in odd if user != connection.user_id]
                found[room.name] = _facts(here, rest)
                rest -= len(json.dumps(found[room.name]))
        _put(wiring, jobs)
    except AwsError as error:
        log.warning("presence failed connectionId=%s: %s", plain(connection.connection_id), plain(error))
    return found


def ask(wiring: Wiring, connection: Connection, room: Room) -> dict[str, object]:
    """Say who is in a room.

    Raises:
        ActionError: `not_a_member`, `no_presence`.
    """
    if room.name not in connection.rooms:
        raise ActionError("not_a_member", "You are not a member of this room")
    if room.kind.presence == "none":
        raise ActionError("no_presence", "This room does not say who is in it")
    here, odd = wiring.store.presences.read(room)
    if here.users is not None and connection.user_id not in here.users:  # the join could not note it
        wiring.store.presences.enter(room, connection.user_id, connection.name)
        here, odd = wiring.store.presences.read(room)
        odd.append(connection.user_id)
    _put(wiring, [PresenceJob(room.name, user) for user in odd])
    return {"room": room.name, **_facts(here, _MAX_BYTES)}


def _facts(here: Presence, most: int) -> Present:
    """What is said of a room: the list if it fits into these bytes, or only how many users there are."""
    counted: Present = {"version": here.version, "count": here.count, "listed": False}
    if here.users is None:
        return counted
    users = [{"id": id_, "name": name} for id_, name in here.users.items()]
    if len(json.dumps(users, ensure_ascii=False).encode()) > most:
        return {**counted, "listed": most < _MAX_BYTES}
    return {**counted, "listed": True, "users": users}


def _put(wiring: Wiring, jobs: list[PresenceJob]) -> None:
    if jobs and wiring.job_queue is None:
        log.warning("the stage has no fan-out queue: nobody is told who comes and goes")
    elif jobs and wiring.job_queue is not None:
        wiring.job_queue.put(jobs)
