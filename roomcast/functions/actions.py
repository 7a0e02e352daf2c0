"""What a client may ask for: one small function for each action.

An action reads and changes the store and answers with one event. None of them sends to another connection
or takes a connection's id from the client.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from roomcast import envelope
from roomcast import names as rooms
from roomcast.envelope import Action
from roomcast.errors import ActionError, AuthError, InvalidNameError
from roomcast.store import Connection, Rate
from roomcast.wiring import Parts

MAX_ROOMS = 50
"""Of one connection. Not exact for joins at the same time; it bounds what a disconnect has to delete."""

log = logging.getLogger(__name__)

Reply = tuple[str, Mapping[str, object]]
"""The name of the event that answers, and its data."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an action ends with.

    Attributes:
        text: the envelope for the client.
        closes: whether the connection is to be closed behind it.
    """

    text: str
    closes: bool = False


def handle(parts: Parts, connection_id: str, body: object) -> Answer:
    """Do what one message of a client asks for.

    Args:
        parts: of the stage.
        connection_id: who asks, as API Gateway says.
        body: the message as it came.

    Returns:
        The action's reply, or an `error` event (`chat:error` for the actions on chat rooms) whose data has a
        `code` and a `message`. A message cannot make this function raise; only AWS can.
    """
    action = Action("", {})
    try:
        try:
            action = envelope.parse(body)
        finally:  # a message that is no action counts as one
            connection = _admit(parts, connection_id)
        event, data = _ACTIONS.get(action.name, _unknown)(parts, connection, action.fields)
    except ActionError as error:
        log.info("refused connectionId=%s action=%s code=%s", connection_id, ascii(action.name), error.code)
        event = "chat:error" if action.name in _CHAT_ACTIONS and not error.closes else "error"
        data = {"code": error.code, "message": error.message, **error.fields}
        text = envelope.build(event, data, reply_to=action.id or error.reply_to)
        return Answer(text, error.closes)
    log.info("action connectionId=%s action=%s", connection_id, action.name)
    return Answer(envelope.build(event, data, reply_to=action.id))


def _admit(parts: Parts, connection_id: str) -> Connection:
    settings = parts.settings
    rate = Rate(settings.actions_per_second, settings.actions_burst)
    admission = parts.store.admit(connection_id, rate)
    if admission is None:
        raise ActionError("unknown_connection", "This connection has ended; connect again", closes=True)
    if admission.verdict == "expired":
        raise ActionError("token_expired", "The token has expired; connect with a new one", closes=True)
    if admission.verdict != "ok":
        raise ActionError(
            "rate_limited",
            f"At most {rate.per_second:g} actions a second",
            closes=admission.verdict == "flooding",
            retryAfter=admission.retry_after,
        )
    return admission.connection


def _join_dashboard(parts: Parts, connection: Connection, _: Mapping[str, object]) -> Reply:
    room = rooms.dashboard(connection.role, connection.user_id)
    _join(parts, connection, room)
    return "dashboard:joined", {"success": True, "userRole": connection.role, "room": room.name}


def _leave_dashboard(parts: Parts, connection: Connection, _: Mapping[str, object]) -> Reply:
    room = rooms.dashboard(connection.role, connection.user_id)
    parts.store.leave(connection.connection_id, room)
    return "dashboard:left", {"success": True, "room": room.name}


def _refresh_dashboard(_: Parts, connection: Connection, __: Mapping[str, object]) -> Reply:
    return "dashboard:refresh_data", {"type": connection.role}


def _join_chat(parts: Parts, connection: Connection, fields: Mapping[str, object]) -> Reply:
    room = _chat_room(fields)
    _join(parts, connection, room)
    return "chat:joined_room", {"roomId": room.key, "success": True}


def _leave_chat(parts: Parts, connection: Connection, fields: Mapping[str, object]) -> Reply:
    room = _chat_room(fields)
    parts.store.leave(connection.connection_id, room)
    return "chat:left_room", {"roomId": room.key, "success": True}


def _ping(_: Parts, __: Connection, ___: Mapping[str, object]) -> Reply:
    return "pong", {"timestamp": envelope.timestamp()}


def _refresh_token(parts: Parts, connection: Connection, fields: Mapping[str, object]) -> Reply:
    from roomcast.tokens.authentication import authenticate  # with PyJWT, which no other action needs

    token = fields.get("token")
    try:
        identity = authenticate(
            token if isinstance(token, str) else None, parts.keys, parts.settings.token_rules
        )
    except AuthError as error:
        log.warning("refused connectionId=%s reason=%s", connection.connection_id, error.reason)
        raise ActionError("invalid_token", "The token is not valid") from None
    # Another role would mean other rooms: that is what a new connection is for.
    if (identity.user_id, identity.role) != (connection.user_id, connection.role):
        raise ActionError("invalid_token", "The token is for another user or role")
    if not parts.store.extend(connection, identity):
        raise ActionError("invalid_token", "The token is older than the user's revocation")
    return "auth:refreshed", {"success": True, "expiresAt": envelope.timestamp(identity.expires_at)}


def _unknown(_: Parts, __: Connection, ___: Mapping[str, object]) -> Reply:
    raise ActionError("unknown_action", "Unknown action")


_ACTIONS: Mapping[str, Callable[[Parts, Connection, Mapping[str, object]], Reply]] = MappingProxyType(
    {
        "dashboard:join": _join_dashboard,
        "dashboard:leave": _leave_dashboard,
        "dashboard:refresh": _refresh_dashboard,
        "chat:join_room": _join_chat,
        "chat:leave_room": _leave_chat,
        "auth:refresh": _refresh_token,
        "ping": _ping,
    }
)
_CHAT_ACTIONS = frozenset(name for name in _ACTIONS if name.startswith("chat:"))


def _join(parts: Parts, connection: Connection, room: rooms.Room) -> None:
    if len(connection.rooms) >= MAX_ROOMS and room.name not in connection.rooms:
        raise ActionError("too_many_rooms", f"A connection is in at most {MAX_ROOMS} rooms")
    if not parts.store.join(connection, room, needs_grant=rooms.needs_grant(connection.role, room)):
        raise ActionError("forbidden", "You may not join this room")


def _chat_room(fields: Mapping[str, object]) -> rooms.Room:
    try:
        return rooms.chat(fields.get("roomId"))
    except InvalidNameError:
        raise ActionError("invalid_room", f"roomId must be {rooms.ROOM_ID_RULE}") from None
