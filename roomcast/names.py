"""Room names and who may join them. Pure.

There are three kinds of room and no other: a name is parsed into one of them by full match and compared
by equality, never by prefix.
"""

import re
from dataclasses import dataclass
from typing import Literal

from roomcast.errors import InvalidNameError

Role = Literal["admin", "user"]

USER_ID_RULE = "a string of 1 to 128 of the characters A-Z a-z 0-9 _ . @ | : + -"
ROOM_ID_RULE = "a string of 1 to 64 of the characters A-Z a-z 0-9 _ . : -"
_USER_ID = re.compile(r"[A-Za-z0-9_.@|:+-]{1,128}")
_ROOM_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_MAX_CHARS = 128

_DASHBOARD_ADMIN = "dashboard_admin"
_DASHBOARD_USER = "dashboard_user_"
_CHAT = "chat_room_"


@dataclass(frozen=True, slots=True)
class Room:
    """A room: `dashboard_admin`, `dashboard_user_{userId}` or `chat_room_{roomId}`.

    Attributes:
        kind: which of the three.
        key: the user id or room id; empty for `dashboard_admin`.
    """

    kind: Literal["dashboard_admin", "dashboard_user", "chat"]
    key: str = ""

    @property
    def name(self) -> str:
        """The name on the wire and in the rooms table."""
        return {
            "dashboard_admin": _DASHBOARD_ADMIN,
            "dashboard_user": _DASHBOARD_USER + self.key,
            "chat": _CHAT + self.key,
        }[self.kind]


def parse(name: object) -> Room:
    """Read a room's name.

    Raises:
        InvalidNameError: it is not one of the three kinds, or its id does not match the grammar.
    """
    if isinstance(name, str):
        if name == _DASHBOARD_ADMIN:
            return Room("dashboard_admin")
        if name.startswith(_DASHBOARD_USER):
            return Room("dashboard_user", user_id(name.removeprefix(_DASHBOARD_USER)))
        if name.startswith(_CHAT):
            return chat(name.removeprefix(_CHAT))
    raise InvalidNameError("room", name, "dashboard_admin, dashboard_user_{userId} or chat_room_{roomId}")


def dashboard(role: Role, user: str) -> Room:
    """The dashboard room of a user: `dashboard_admin` for an admin, the user's own for everyone else."""
    return Room("dashboard_admin") if role == "admin" else Room("dashboard_user", user)


def chat(room_id: object) -> Room:
    """The chat room of a room id.

    Raises:
        InvalidNameError: the id does not match `ROOM_ID_RULE`.
    """
    if not isinstance(room_id, str) or not _ROOM_ID.fullmatch(room_id):
        raise InvalidNameError("roomId", room_id, ROOM_ID_RULE)
    return Room("chat", room_id)


def needs_grant(role: Role, room: Room) -> bool:
    """Whether a user of this role needs a grant to join the room: chat rooms do, but not of an admin."""
    return room.kind == "chat" and role != "admin"


def grantable(name: object) -> Room:
    """Read the name of a room that takes grants.

    Raises:
        InvalidNameError: it is not a chat room: a dashboard belongs to a role or a user, whatever is granted.
    """
    room = parse(name)
    if room.kind != "chat":
        raise InvalidNameError("room", name, f"{_CHAT}{{roomId}}: only chat rooms take grants")
    return room


def user_id(value: object) -> str:
    """Check a user id.

    Raises:
        InvalidNameError: it does not match `USER_ID_RULE`.
    """
    if not isinstance(value, str) or not _USER_ID.fullmatch(value):
        raise InvalidNameError("user id", value, USER_ID_RULE)
    return value


def connection_id(value: object) -> str:
    """Check that a value may be the id of a connection; API Gateway documents no grammar of them.

    Raises:
        InvalidNameError: it is not a string of 1 to 128 characters.
    """
    return _name("connection id", value)


def send_id(value: object) -> str:
    """Check the id that a backend gives a send.

    Raises:
        InvalidNameError: it is not a string of 1 to 128 characters.
    """
    return _name("id", value)


def _name(what: str, value: object) -> str:
    if isinstance(value, str) and 1 <= len(value) <= _MAX_CHARS:
        return value
    raise InvalidNameError(what, value, f"a string of 1 to {_MAX_CHARS} characters")
