"""What a client may ask for: one small function for each action.

Here are the actions of the engine: rooms, tokens, `ping`. Those of the application are called by their
declarations. An action reads and changes the store and answers with one event. None of the engine's takes a
connection's id from the client, and only `rooms:send` and `rooms:signal` send to other connections.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from roomcast import aws, envelope, metrics
from roomcast.app import Declared
from roomcast.app import Reply as OtherReply
from roomcast.connection import Connection, Identity
from roomcast.envelope import Action
from roomcast.errors import (
    ActionError,
    AuthError,
    KeysUnavailableError,
    ManagementApiError,
)
from roomcast.functions import joining
from roomcast.functions.asked import room_named
from roomcast.names import HookEvent
from roomcast.plain_text import plain
from roomcast.rooms import inbox
from roomcast.store.rate import Rate
from roomcast.wiring import Wiring

MIN_SPREAD_MS = 1000
"""Milliseconds over which the clients of a small stage spread their reconnects."""
CONNECT_SHARE = 0.8
"""Of the stage's connects a second, the share that clients coming back may take."""
_MAX_DIGITS = 15  # of an id that is a number
_CLOSE_SECONDS = 1.0  # for each of the two requests that close a connection; the function has 10
UNAVAILABLE = "Tokens cannot be checked at the moment; try again"

log = logging.getLogger(__name__)

Reply = tuple[str, object] | tuple[str, object, float]
"""The name of the event that answers, its data, and, where the client is to hear of it, when the right to the
connection ends (epoch seconds)."""


@aws.within(aws.PATIENCE)
def handle(wiring: Wiring, connection_id: str, body: object, at: int | None = None) -> str | None:
    """Do what one message of a client asks for.

    Args:
        wiring: of the stage.
        connection_id: who asks, as API Gateway says.
        body: the message as it came.
        at: epoch milliseconds at which API Gateway received it.

    Returns:
        The reply's envelope, or an `error` event (or the one that the action declares) whose data has a
        `code` and a `message`. None where the connection was closed after its error was posted, and for a
        signal without an id. A message cannot make this function raise; only AWS and faults of the
        application can.
    """
    message = _read(body)
    name = message.name if isinstance(message, Action) else ""
    try:
        connection = _admit(wiring, connection_id)  # counts a message that is not an action too
        if isinstance(message, ActionError):
            raise message
        connection = _in_inbox(wiring, connection._replace(asked=_asked(at, message.id)))
        event, data, *until = _do(wiring, connection, message)
    except ActionError as error:
        log.info("refused connectionId=%s action=%s code=%s", plain(connection_id), plain(name), error.code)
        if isinstance(message, Action) and name == "auth:check" and error.code == "unknown_connection":
            event, data = _why(wiring, message.fields)
        else:
            declared = None if error.closes else _declared(wiring, name)
            event = declared.error if declared else "error"
            data = {"code": error.code, "message": error.message, **error.fields}
        reply_to = message.id if isinstance(message, Action) else message.reply_to
        text = envelope.build(event, data, reply_to=reply_to)
        if not error.closes:
            return text
        _close(wiring, connection_id, text)
        return None
    log.info("action connectionId=%s action=%s", plain(connection_id), name)
    if name == "rooms:signal" and message.id is None:
        return None  # half of what a signal costs
    facts = _facts(wiring, *until) if until else None
    return envelope.build(event, data, reply_to=message.id, connection=facts)


def _do(wiring: Wiring, connection: Connection, message: Action) -> Reply:
    engines = _ACTIONS.get(message.name)
    if engines is not None:
        return engines(wiring, connection, {**message.fields, "id": message.id})
    declared = _declared(wiring, message.name)
    if declared is None:
        raise ActionError("unknown_action", "Unknown action")
    from roomcast.functions.context import Context

    arguments = declared.arguments(message.fields)
    from roomcast.functions.hooks import run

    context = Context(wiring, connection, message.id, run)
    data = declared.function(context, **arguments)
    event = declared.reply
    if isinstance(data, OtherReply):
        event, data = data.event, data.data
    return (event, data, connection.expires_at) if context.has_joined else (event, data)


def _declared(wiring: Wiring, name: str) -> Declared | None:
    """The application's action of this name. Its code is not imported for those of the engine."""
    return None if not name or name in _ACTIONS else wiring.application.actions.get(name)


def _facts(wiring: Wiring, expires_at: float) -> Mapping[str, object]:
    """What a client should know of its connection, in relative times: its clock may be wrong.

    `expiresIn`: seconds until its token ends. `spread`: milliseconds over which the stage's clients must
    spread their reconnects to stay under its connects a second.
    """
    connects = CONNECT_SHARE * wiring.settings.connect_rate
    spread = math.ceil(wiring.store.size.last() * 1000 / connects)
    return {"expiresIn": max(0, int(expires_at - time.time())), "spread": max(MIN_SPREAD_MS, spread)}


def _why(wiring: Wiring, fields: Mapping[str, object]) -> tuple[str, Mapping[str, object]]:
    """Say whether the token of a client that was not let in is good, and if not, why. Nothing else is proof.

    A ticket cannot be looked at twice: a client with one that was let in would be known.
    """
    try:
        identity = _authenticate(wiring, fields)
    except AuthError as error:
        return "auth:checked", {"valid": False, "code": error.code}
    except KeysUnavailableError as error:
        log.warning("unavailable reason=%s", error.reason)
        metrics.emit({"KeysUnavailable": 1})
        return "error", {"code": "unavailable", "message": UNAVAILABLE}
    if wiring.store.revocations.includes(identity):
        return "auth:checked", {"valid": False, "code": "revoked"}
    return "auth:checked", {"valid": True}


def _close(wiring: Wiring, connection_id: str, text: str) -> None:
    """Post the last event and close the connection. A returned reply would come after the close.

    What fails is tried again at the connection's next message; a client that does not read gets no more time.
    """
    api = wiring.management_api
    try:
        api.post([connection_id], text.encode(), budget=_CLOSE_SECONDS)
        api.delete([connection_id], budget=_CLOSE_SECONDS)
    except ManagementApiError as error:
        log.warning("not closed connectionId=%s: %s", plain(connection_id), plain(error))


def _asked(at: int | None, id_: str | None) -> str:
    """Order an action among those of its connection: by the time, and within a millisecond by the client's id
    where that is a number."""
    if at is None:
        return ""
    number = id_ if id_ and id_.isascii() and id_.isdigit() and len(id_) <= _MAX_DIGITS else "0"
    return f"{at:015d}.{int(number):0{_MAX_DIGITS}d}"


def _read(body: object) -> Action | ActionError:
    try:
        return envelope.parse(body)
    except ActionError as error:
        return error


def _admit(wiring: Wiring, connection_id: str) -> Connection:
    settings = wiring.settings
    rate = Rate(settings.actions_per_second, settings.actions_burst)
    admission = wiring.store.admissions.admit(connection_id, rate)
    if admission is None:
        raise ActionError("unknown_connection", "This connection has ended; connect again", closes=True)
    if admission.verdict == "expired":
        # Not closed: DELETE closes with 1000, which LandingHub's client takes for the user's own wish and
        # never comes back from. API Gateway closes it later, with 1001; until then the rate bounds its cost.
        raise ActionError("token_expired", "The token has expired; connect with a new one")
    if admission.verdict != "ok":
        raise ActionError(
            "rate_limited",
            f"At most {rate.per_second:g} actions a second",
            closes=admission.verdict == "flooding",
            retryAfter=admission.retry_after,
        )
    return admission.connection


def _in_inbox(wiring: Wiring, connection: Connection) -> Connection:
    """Put a connection into its user's inbox: one that was opened before there were inboxes is not in it."""
    room = inbox(connection.user_id)
    if room.name in connection.rooms:
        return connection
    wiring.store.members.join(connection, room, needs_grant=False)
    return connection._replace(rooms=connection.rooms | {room.name})


def _join_rooms(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    rooms = joining.join_rooms(wiring, connection, fields)
    new = {str(each["room"]) for each in rooms if each["success"]} - connection.rooms
    _tell(wiring, "joined", connection._replace(rooms=connection.rooms | new), sorted(new))
    return "rooms:joined", {"rooms": rooms}, connection.expires_at


def _leave_rooms(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    rooms = joining.leave_rooms(wiring, connection, fields)
    left = {str(each["room"]) for each in rooms if each["success"]} & connection.rooms
    _tell(wiring, "left", connection._replace(rooms=connection.rooms - left), sorted(left))
    return "rooms:left", {"rooms": rooms}


def _tell(
    wiring: Wiring, event: HookEvent, connection: Connection, rooms: Iterable[str], *arguments: object
) -> None:
    """Call the hooks of something that has happened in these rooms."""
    wanted = [
        room for room in map(wiring.store.rooms.parse, rooms) if wiring.application.hooks_of(event, room)
    ]
    if wanted:
        from roomcast.functions import hooks
        from roomcast.functions.context import Context

        for room in wanted:
            hooks.run(wiring, event, Context(wiring, connection), room, *arguments)


def _history(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    return "rooms:history", joining.history(wiring, connection, fields)


def _send(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    from roomcast.functions import publishing  # with the management API, which most actions do without

    room = room_named(wiring, connection, fields.get("room"))
    data = _required(fields, "data")
    sent = publishing.send(wiring, connection, room, fields.get("event"), data, fields["id"])
    _tell(wiring, "published", connection, [room.name], fields["event"], data)
    return "rooms:sent", {"room": room.name, **sent}


def _presence(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    from roomcast.functions import presence

    room = room_named(wiring, connection, fields.get("room"))
    return "rooms:presence", presence.ask(wiring, connection, room)


def _signal(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    from roomcast.functions import publishing

    room = room_named(wiring, connection, fields.get("room"))
    publishing.signal(wiring, connection, room, fields.get("event"), _required(fields, "data"))
    return "rooms:signaled", {"room": room.name}


def _required(fields: Mapping[str, object], key: str) -> object:
    if key not in fields:
        raise ActionError("invalid_data", f"The message has no {key}")
    return fields[key]


def _ping(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    pong: dict[str, object] = {"timestamp": envelope.timestamp()}
    if (rooms := fields.get("rooms")) is not None:
        pong["rooms"] = joining.positions(wiring, connection, rooms)
    return "pong", pong, connection.expires_at


def _check_token(_: Wiring, __: Connection, ___: Mapping[str, object]) -> Reply:
    """A connection that is known has been let in."""
    return "auth:checked", {"valid": True}


def _refresh_token(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    from roomcast.tokens.key_set import COLD_RETRY_SECONDS

    try:
        identity = _authenticate(wiring, fields)
    except AuthError as error:
        log.warning("refused connectionId=%s reason=%s", connection.connection_id, error.reason)
        raise ActionError("invalid_token", "The token is not valid") from None
    except KeysUnavailableError as error:
        log.warning("unavailable connectionId=%s reason=%s", connection.connection_id, error.reason)
        metrics.emit({"KeysUnavailable": 1})
        raise ActionError("unavailable", UNAVAILABLE, retryAfter=COLD_RETRY_SECONDS) from None
    # Another role would mean other rooms: that is what a new connection is for.
    if (identity.user_id, identity.role) != (connection.user_id, connection.role):
        raise ActionError("invalid_token", "The token is for another user or role")
    if not wiring.store.connections.extend(connection, identity):
        raise ActionError("invalid_token", "The token is older than the user's revocation")
    refreshed = {"success": True, "expiresAt": envelope.timestamp(identity.expires_at)}
    return "auth:refreshed", refreshed, identity.expires_at


def _authenticate(wiring: Wiring, fields: Mapping[str, object]) -> Identity:
    from roomcast.tokens.authentication import authenticate  # with PyJWT, which no other action needs

    token = fields.get("token")
    return authenticate(token if isinstance(token, str) else None, wiring.keys, wiring.settings.token_rules)


_ACTIONS: Mapping[str, Callable[[Wiring, Connection, Mapping[str, object]], Reply]] = MappingProxyType(
    {
        "auth:check": _check_token,
        "auth:refresh": _refresh_token,
        "ping": _ping,
        "rooms:history": _history,
        "rooms:join": _join_rooms,
        "rooms:leave": _leave_rooms,
        "rooms:presence": _presence,
        "rooms:send": _send,
        "rooms:signal": _signal,
    }
)
