"""Tells rooms who comes and goes: takes note in the store, and leaves the rest to the worker of the queue."""

import logging
from collections.abc import Iterable

from roomcast.errors import AwsError
from roomcast.management_api.client import ManagementApi
from roomcast.rooms import Room
from roomcast.sending.job import PresenceJob
from roomcast.sending.job_queue import JobQueue
from roomcast.store import Store
from roomcast.store.presence import GRACE, Change, Later, Presence

_LOG = logging.getLogger(__name__)


def left(store: Store, queue: JobQueue | None, user_id: str, rooms: Iterable[Room]) -> None:
    """Take note that memberships of a user have ended, and have somebody look whether the user has gone.

    Never fails what it comes after: what is missed here is found by whoever reads the room's presence once
    the user's connections are two hours old.
    """
    try:
        jobs = [
            PresenceJob(room.name, user_id)
            for room in rooms
            if room.kind.presence != "none" and store.presences.leave(room, user_id)
        ]
        if jobs and queue is not None:
            queue.put(jobs, delay=GRACE)
    except AwsError as error:
        _LOG.warning("nobody looks yet whether userId=%s has left: %s", user_id, error)


def watch(store: Store, queue: JobQueue | None) -> None:
    """Have the end of each connection noted."""

    def ended(user_id: str, rooms: list[str]) -> None:
        left(store, queue, user_id, store.rooms.with_presence(rooms))

    store.tables.left = ended


def read(store: Store, probed: ManagementApi | None, room: str) -> Presence | None:
    """Who is in a room; with a management API, after it was asked about each connection in the room."""
    target = store.rooms.parse(room)
    if target.kind.presence == "none":
        return None
    if probed is not None:
        members = {receiver.connection_id: receiver for receiver in store.receivers.of_room(target)}
        now = store.tables.clock()
        for connection_id in probed.look(members).gone:
            if not members[connection_id].young(now):
                store.connections.prune(members[connection_id], [target.name])
    return store.presences.read(target)[0]


def look(
    store: Store, queue: JobQueue, job: PresenceJob, *, again: bool
) -> list[tuple[str, dict[str, object]]]:
    """Do a presence job.

    Args:
        store: the tables.
        queue: for another look, later.
        job: the job.
        again: whether an earlier try of this job may have died before the room was told.

    Returns:
        The events that the room is to be told, with their data.
    """
    room = store.rooms.parse(job.room)
    if room.kind.presence == "none":  # it had another kind when the job was made
        return []
    if job.user_id is None:
        found: list[Change | Later | None] = [store.presences.count(room)]
    else:
        found = [store.presences.last(room, job.user_id)] if again else []
        found.append(store.presences.look(room, job.user_id))
    for later in found:
        if isinstance(later, Later):
            queue.put([PresenceJob(job.room, later.user_id)], delay=later.seconds)
    return [_event(room, change) for change in found if isinstance(change, Change)]


def _event(room: Room, change: Change) -> tuple[str, dict[str, object]]:
    facts: dict[str, object] = {"room": room.name, "version": change.version}
    if change.what == "count":
        return "presence:count", {**facts, "count": change.people, "listed": change.listed}
    return f"presence:{change.what}", {**facts, "user": {"id": change.user_id, "name": change.name}}
