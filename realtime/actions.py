"""What a client may ask for: one small function for each action.

An action reads and changes the store and answers with one event. None of them sends to another connection
or takes a connection's id from the client.
"""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from realtime import envelope, rooms
from realtime.errors import ActionError, InvalidNameError
from realtime.store import Connection, Store

log = logging.getLogger(__name__)

Reply = tuple[str, Mapping[str, object]]
"""The name of the event that answers, and its data."""


def handle(store: Store, connection_id: str, body: object) -> str:
    """Do what one message of a client asks for.

    Args:
        store: the tables.
        connection_id: who asks, as API Gateway says.
        body: the message as it came.

    Returns:
        The envelope to answer with: the action's reply, or an `error` event (`chat:error` for the actions on
        chat rooms) whose data has a `code` and a `message`. A message cannot make this function raise; only
        DynamoDB can.
    """
    action = envelope.Action("", {})
    try:
        action = envelope.parse(body)
        event, data = _perform(store, connection_id, action)
    except ActionError as error:
        log.info("refused connectionId=%s action=%s code=%s", connection_id, ascii(action.name), error.code)
        event = "chat:error" if action.name in _CHAT_ACTIONS else "error"
        data = {"code": error.code, "message": error.message, **error.fields}
        return envelope.build(event, data, reply_to=action.id or error.reply_to)
    log.info("action connectionId=%s action=%s", connection_id, action.name)
    return envelope.build(event, data, reply_to=action.id)


def _perform(store: Store, connection_id: str, action: envelope.Action) -> Reply:
    perform = _ACTIONS.get(action.name)
    if perform is None:
        raise ActionError("unknown_action", "Unknown action")
    connection = store.connection(connection_id)
    if connection is None:
        raise ActionError("unknown_connection", "This connection has ended; connect again")
    return perform(store, connection, action.fields)


def _join_dashboard(store: Store, connection: Connection, _: Mapping[str, object]) -> Reply:
    room = rooms.dashboard(connection.role, connection.user_id)
    _join(store, connection, room)
    return "dashboard:joined", {"success": True, "userRole": connection.role, "room": room.name}


def _leave_dashboard(store: Store, connection: Connection, _: Mapping[str, object]) -> Reply:
    room = rooms.dashboard(connection.role, connection.user_id)
    store.leave(connection.connection_id, room)
    return "dashboard:left", {"success": True, "room": room.name}


def _refresh_dashboard(_: Store, connection: Connection, __: Mapping[str, object]) -> Reply:
    return "dashboard:refresh_data", {"type": connection.role}


def _join_chat(store: Store, connection: Connection, fields: Mapping[str, object]) -> Reply:
    room = _chat_room(fields)
    _join(store, connection, room)
    return "chat:joined_room", {"roomId": room.key, "success": True}


def _leave_chat(store: Store, connection: Connection, fields: Mapping[str, object]) -> Reply:
    room = _chat_room(fields)
    store.leave(connection.connection_id, room)
    return "chat:left_room", {"roomId": room.key, "success": True}


def _ping(_: Store, __: Connection, ___: Mapping[str, object]) -> Reply:
    return "pong", {"timestamp": envelope.timestamp()}


_ACTIONS: Mapping[str, Callable[[Store, Connection, Mapping[str, object]], Reply]] = MappingProxyType(
    {
        "dashboard:join": _join_dashboard,
        "dashboard:leave": _leave_dashboard,
        "dashboard:refresh": _refresh_dashboard,
        "chat:join_room": _join_chat,
        "chat:leave_room": _leave_chat,
        "ping": _ping,
    }
)
_CHAT_ACTIONS = frozenset(name for name in _ACTIONS if name.startswith("chat:"))


def _join(store: Store, connection: Connection, room: rooms.Room) -> None:
    if not store.join(connection, room, needs_grant=rooms.needs_grant(connection.role, room)):
        raise ActionError("forbidden", "You may not join this room")


def _chat_room(fields: Mapping[str, object]) -> rooms.Room:
    try:
        return rooms.chat(fields.get("roomId"))
    except InvalidNameError:
        raise ActionError("invalid_room", f"roomId must be {rooms.ROOM_ID_RULE}") from None
