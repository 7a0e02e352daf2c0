"""What clients publish in rooms: messages, which are kept and numbered like those of backends, and signals,
which are neither. Who sends is what the token says."""

import functools
import json
import logging
import time
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar
from uuid import UUID, uuid5

from roomcast import envelope, metrics
from roomcast.app import ENGINES_OWN
from roomcast.connection import Connection
from roomcast.errors import (
    ActionError,
    AwsError,
    EnvelopeTooLargeError,
    InvalidDataError,
    ManagementApiError,
    StalledError,
)
from roomcast.functions.replies import Published
from roomcast.plain_text import plain
from roomcast.rooms import Room, may_publish, needs_grant
from roomcast.sending.audience import ToRoom
from roomcast.sending.sender import SendReport
from roomcast.store.rate import Rate
from roomcast.wiring import Wiring

BURST = 4
"""Times the rate that a user may publish at once."""
MAX_SIGNAL_BYTES = 1024
"""Of the data of a signal, as JSON."""
MAX_SIGNAL_MEMBERS = 50
"""Of a room that takes signals: each is a post for every member, and typing is of no use in a crowd."""
_RESERVED = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "error", "ping", "pong", "reconnect")
)
"""Events that are the server's or the client's own: whoever hears one must be able to believe it."""
_NAMESPACE = UUID("6f0d5f0e-8c1b-5c5e-9d0a-5d1f6b1c9a55")
_DIGITS = 15  # of an id that is a number, by which actions are counted

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


def _counted(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Count what it refuses."""

    @functools.wraps(function)
    def counted(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        try:
            return function(*arguments, **named)
        except ActionError:
            metrics.emit({"RefusedPublish": 1})
            raise

    return counted


@_counted
def send(
    wiring: Wiring,
    connection: Connection,
    room: Room,
    event: object,
    data: object,
    action_id: object,
    *,
    own: bool = False,
) -> Published:
    """Publish a message.

    Args:
        wiring: of the stage.
        connection: who publishes.
        room: where.
        event: its name, as the client gave it.
        data: the application's part.
        action_id: of the client's action.
        own: whether the application has chosen the event, and not the client.

    Returns:
        What the reply says of it: its `id`, and its position where the room keeps a history.

    Raises:
        ActionError: `not_a_member`, `forbidden`, `invalid_event`, `invalid_data`, `too_large`,
            `rate_limited`, `unavailable`.
    """
    name, given = _check(wiring, connection, room, event, data, own=own), _name_of(action_id)
    sender: dict[str, object] = {"id": connection.user_id, "name": connection.name}
    id_ = None
    if given is not None:
        sender["replyTo"] = given
        # The content is part of it: an id that a client uses twice for different things loses nothing.
        id_ = str(uuid5(_NAMESPACE, json.dumps([connection.user_id, room.name, given, name, data])))
    began = time.time()

    def publish() -> SendReport:
        _admit(wiring, connection, room, "sends", wiring.settings.sends_per_second)
        return wiring.sender.send(ToRoom(room), name, data, id_, sender)

    report = _do(connection, publish)
    posts = {"Sent": report.sent, "Gone": report.gone, "Failed": report.failed, "Unknown": report.unknown}
    if wiring.server_events:
        facts = {"room": room.name, "event": name, "id": report.id}
        user_id, connection_id = connection.user_id, connection.connection_id
        wiring.server_events.tell("published", user_id, connection_id, facts)
    metrics.emit({"Published": 1, **posts, "PublishToPost": (time.time() - began) * 1000})
    if report.seq is None or report.epoch is None:
        return {"id": report.id}
    return {"id": report.id, "seq": report.seq, "epoch": report.epoch}


@_counted
def signal(wiring: Wiring, connection: Connection, room: Room, event: object, data: object) -> None:
    """Publish a signal: typing, a cursor. Whoever cannot take it at once does not get it.

    Raises:
        ActionError: as `send`, and `room_too_large`.
    """
    name = _check(wiring, connection, room, event, data)
    if len(json.dumps(data, ensure_ascii=False).encode()) > MAX_SIGNAL_BYTES:
        raise ActionError("too_large", f"A signal's data must be at most {MAX_SIGNAL_BYTES} bytes")
    sender = {"id": connection.user_id, "name": connection.name}
    text = envelope.build(name, data, room=room.name, sender=sender)

    def post() -> int | None:
        _admit(wiring, connection, room, "signals", wiring.settings.signals_per_second)
        return wiring.sender.signal(room, text, MAX_SIGNAL_MEMBERS, connection.connection_id)

    if _do(connection, post) is None:
        message = f"Signals are for rooms of at most {MAX_SIGNAL_MEMBERS} connections"
        raise ActionError("room_too_large", message)
    metrics.emit({"Signals": 1})


def _check(
    wiring: Wiring, connection: Connection, room: Room, event: object, data: object, *, own: bool = False
) -> str:
    """See that this connection may publish this event there, and that the event is as it was declared."""
    if room.name not in connection.rooms:
        raise _not_a_member()
    if not may_publish(connection.role, room):
        raise ActionError("forbidden", "You may not publish in this room")
    if not isinstance(event, str) or not 1 <= len(event) <= envelope.MAX_NAME_CHARS:
        message = f"event must be a string of 1 to {envelope.MAX_NAME_CHARS} characters"
        raise ActionError("invalid_event", message)
    application = wiring.application
    reserved = event in _RESERVED or event.startswith(ENGINES_OWN) or application.is_reserved(event)
    if reserved and not own:
        raise ActionError("invalid_event", "This name is reserved for the server's own events")
    try:
        application.check_event(event, data)
    except InvalidDataError as error:
        raise ActionError("invalid_data", str(error)) from None
    return event


def _name_of(action_id: object) -> str | None:
    """The id of an action, where it names the message: a counter begins again with each page."""
    if not isinstance(action_id, str) or (len(action_id) <= _DIGITS and action_id.isdecimal()):
        return None
    return action_id


def _admit(
    wiring: Wiring,
    connection: Connection,
    room: Room,
    what: Literal["sends", "signals"],
    per_second: int,
) -> None:
    """Count it against the user's rate, and look whether the user may be in the room still: a revocation may
    not have found this connection, which the index of users shows late."""
    wait = wiring.store.user_rates.take(connection.user_id, what, Rate(per_second, BURST * per_second))
    if wait:
        raise ActionError("rate_limited", f"At most {per_second} {what} a second", retryAfter=wait)
    granted = [room] if needs_grant(connection.role, room) else []
    kept, grants = wiring.store.members.allowed(connection.user_id, connection.issued_at, granted)
    if not kept or len(grants) < len(granted):
        raise _not_a_member()


def _do(connection: Connection, work: Callable[[], _Result]) -> _Result:
    """Say what goes wrong in the client's words."""
    try:
        return work()
    except EnvelopeTooLargeError as error:
        raise ActionError("too_large", f"The message must be at most {error.limit} bytes") from None
    except InvalidDataError:
        raise ActionError("invalid_data", "JSON cannot hold the data") from None
    except (AwsError, ManagementApiError, StalledError) as error:
        log.warning("not published connectionId=%s: %s", plain(connection.connection_id), plain(error))
        message = "It may or may not have been published; try again with the same id"
        raise ActionError("unavailable", message) from None


def _not_a_member() -> ActionError:
    return ActionError("not_a_member", "You are not a member of this room")
