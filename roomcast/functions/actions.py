"""What a client may ask for: one small function for each action.

An action reads and changes the store and answers with one event. None of them sends to another connection
or takes a connection's id from the client.
"""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from roomcast import aws, envelope, names
from roomcast.connection import Connection
from roomcast.envelope import Action
from roomcast.errors import (
    ActionError,
    AuthError,
    InvalidNameError,
    KeysUnavailableError,
    ManagementApiError,
)
from roomcast.store.rate import Rate
from roomcast.wiring import Wiring

MAX_ROOMS = 50
"""Of one connection. Not exact for joins at the same time; it bounds what a disconnect has to delete."""

_CLOSE_SECONDS = 1.0  # for each of the two requests that close a connection; the function has 10

log = logging.getLogger(__name__)

Reply = tuple[str, Mapping[str, object]]
"""The name of the event that answers, and its data."""


@aws.within(aws.PATIENCE)
def handle(wiring: Wiring, connection_id: str, body: object) -> str | None:
    """Do what one message of a client asks for.

    Args:
        wiring: of the stage.
        connection_id: who asks, as API Gateway says.
        body: the message as it came.

    Returns:
        The reply's envelope, or an `error` event (`chat:error` for the actions on chat rooms) whose data has
        a `code` and a `message`. None where the connection was closed after its error was posted. A message
        cannot make this function raise; only AWS can.
    """
    message = _read(body)
    name = message.name if isinstance(message, Action) else ""
    try:
        connection = _admit(wiring, connection_id)  # counts a message that is not an action too
        if isinstance(message, ActionError):
            raise message
        event, data = _ACTIONS.get(name, _unknown)(wiring, connection, message.fields)
    except ActionError as error:
        log.info("refused connectionId=%s action=%s code=%s", connection_id, ascii(name), error.code)
        event = "chat:error" if name in _CHAT_ACTIONS and not error.closes else "error"
        data = {"code": error.code, "message": error.message, **error.fields}
        reply_to = message.id if isinstance(message, Action) else message.reply_to
        text = envelope.build(event, data, reply_to=reply_to)
        if not error.closes:
            return text
        _close(wiring, connection_id, text)
        return None
    log.info("action connectionId=%s action=%s", connection_id, name)
    return envelope.build(event, data, reply_to=message.id)


def _close(wiring: Wiring, connection_id: str, text: str) -> None:
    """Post the last event and close the connection. A returned reply would come after the close.

    What fails is tried again at the connection's next message; a client that does not read gets no more time.
    """
    api = wiring.management_api
    try:
        api.post([connection_id], text.encode(), budget=_CLOSE_SECONDS)
        api.delete([connection_id], budget=_CLOSE_SECONDS)
    except ManagementApiError as error:
        log.warning("not closed connectionId=%s: %s", connection_id, ascii(str(error)))


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
        raise ActionError("token_expired", "The token has expired; connect with a new one", closes=True)
    if admission.verdict != "ok":
        raise ActionError(
            "rate_limited",
            f"At most {rate.per_second:g} actions a second",
            closes=admission.verdict == "flooding",
            retryAfter=admission.retry_after,
        )
    return admission.connection


def _join_dashboard(wiring: Wiring, connection: Connection, _: Mapping[str, object]) -> Reply:
    room = names.dashboard(connection.role, connection.user_id)
    _join(wiring, connection, room)
    return "dashboard:joined", {"success": True, "userRole": connection.role, "room": room.name}


def _leave_dashboard(wiring: Wiring, connection: Connection, _: Mapping[str, object]) -> Reply:
    room = names.dashboard(connection.role, connection.user_id)
    wiring.store.members.leave(connection.connection_id, room)
    return "dashboard:left", {"success": True, "room": room.name}


def _refresh_dashboard(_: Wiring, connection: Connection, __: Mapping[str, object]) -> Reply:
    return "dashboard:refresh_data", {"type": connection.role}


def _join_chat(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    room = _chat_room(fields)
    _join(wiring, connection, room)
    return "chat:joined_room", {"roomId": room.key, "success": True}


def _leave_chat(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    room = _chat_room(fields)
    wiring.store.members.leave(connection.connection_id, room)
    return "chat:left_room", {"roomId": room.key, "success": True}


def _ping(_: Wiring, __: Connection, ___: Mapping[str, object]) -> Reply:
    return "pong", {"timestamp": envelope.timestamp()}


def _refresh_token(wiring: Wiring, connection: Connection, fields: Mapping[str, object]) -> Reply:
    from roomcast.tokens.authentication import authenticate  # with PyJWT, which no other action needs
    from roomcast.tokens.key_set import COLD_RETRY_SECONDS

    token = fields.get("token")
    try:
        identity = authenticate(
            token if isinstance(token, str) else None, wiring.keys, wiring.settings.token_rules
        )
    except AuthError as error:
        log.warning("refused connectionId=%s reason=%s", connection.connection_id, error.reason)
        raise ActionError("invalid_token", "The token is not valid") from None
    except KeysUnavailableError as error:
        log.warning("unavailable connectionId=%s reason=%s", connection.connection_id, error.reason)
        raise ActionError(
            "unavailable", "Tokens cannot be checked at the moment; try again", retryAfter=COLD_RETRY_SECONDS
        ) from None
    # Another role would mean other rooms: that is what a new connection is for.
    if (identity.user_id, identity.role) != (connection.user_id, connection.role):
        raise ActionError("invalid_token", "The token is for another user or role")
    if not wiring.store.connections.extend(connection, identity):
        raise ActionError("invalid_token", "The token is older than the user's revocation")
    return "auth:refreshed", {"success": True, "expiresAt": envelope.timestamp(identity.expires_at)}


def _unknown(_: Wiring, __: Connection, ___: Mapping[str, object]) -> Reply:
    raise ActionError("unknown_action", "Unknown action")


_ACTIONS: Mapping[str, Callable[[Wiring, Connection, Mapping[str, object]], Reply]] = MappingProxyType(
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


def _join(wiring: Wiring, connection: Connection, room: names.Room) -> None:
    if len(connection.rooms) >= MAX_ROOMS and room.name not in connection.rooms:
        raise ActionError("too_many_rooms", f"A connection is in at most {MAX_ROOMS} rooms")
    if not wiring.store.members.join(connection, room, needs_grant=names.needs_grant(connection.role, room)):
        raise ActionError("forbidden", "You may not join this room")


def _chat_room(fields: Mapping[str, object]) -> names.Room:
    try:
        return names.chat(fields.get("roomId"))
    except InvalidNameError:
        raise ActionError("invalid_room", f"roomId must be {names.ROOM_ID_RULE}") from None
