"""Room names, who may join them, and which rooms keep a history. Pure.

The kinds of room are in one table, `KINDS`: a name is parsed into one of them by full match and compared by
equality, never by prefix.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from roomcast.errors import InvalidNameError

Role = Literal["admin", "user"]

USER_ID_RULE = "a string of 1 to 128 of the characters A-Z a-z 0-9 _ . @ | : + -"
ROOM_ID_RULE = "a string of 1 to 64 of the characters A-Z a-z 0-9 _ . : -"
_USER_ID = re.compile(r"[A-Za-z0-9_.@|:+-]{1,128}")
_ROOM_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_MAX_CHARS = 128


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a room's history keeps.

    Attributes:
        seconds: for how long.
        messages: how many of the newest. With 1 the room is a last value: whoever joins gets the newest
            message, and what it has replaced is not missed.
    """

    seconds: int
    messages: int


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same for all rooms of a kind.

    Attributes:
        prefix: what their names begin with; the whole name where there is one room only.
        history: what they keep; None: sends are not numbered, and what a client misses is lost.
        publish: which members may publish: `none`, all `members`, or those of these roles. Backends always
            may.
    """

    prefix: str
    history: Retention | None
    publish: Literal["none", "members"] | tuple[Role, ...] = "none"


_DAY = 24 * 3600
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "dashboard_admin": Kind("dashboard_admin", history=Retention(_DAY, messages=1)),
        "dashboard_user": Kind("dashboard_user_", history=Retention(_DAY, messages=1)),
        "chat": Kind("chat_room_", history=Retention(_DAY, messages=1_000), publish="members"),
        "user": Kind("user_", history=Retention(_DAY, messages=100)),
    }
)
"""Every kind of room there is."""
_NAMES = "dashboard_admin, dashboard_user_{userId}, chat_room_{roomId} or user_{userId}"


@dataclass(frozen=True, slots=True)
class Room:
    """A room: `dashboard_admin`, `dashboard_user_{userId}`, `chat_room_{roomId}` or `user_{userId}`.

    Attributes:
        kind: which of them.
        key: the user id or room id; empty for `dashboard_admin`.
    """

    kind: Literal["dashboard_admin", "dashboard_user", "chat", "user"]
    key: str = ""

    @property
    def name(self) -> str:
        """The name on the wire and in the rooms table."""
        return KINDS[self.kind].prefix + self.key

    @property
    def history(self) -> Retention | None:
        """What the room keeps."""
        return KINDS[self.kind].history


def parse(name: object) -> Room:
    """Read a room's name.

    Raises:
        InvalidNameError: there is no such kind of room, or its id does not match the grammar.
    """
    if isinstance(name, str):
        if name == KINDS["dashboard_admin"].prefix:
            return Room("dashboard_admin")
        if name.startswith(prefix := KINDS["dashboard_user"].prefix):
            return Room("dashboard_user", user_id(name.removeprefix(prefix)))
        if name.startswith(prefix := KINDS["chat"].prefix):
            return chat(name.removeprefix(prefix))
        if name.startswith(prefix := KINDS["user"].prefix):
            return inbox(user_id(name.removeprefix(prefix)))
    raise InvalidNameError("room", name, _NAMES)


def dashboard(role: Role, user: str) -> Room:
    """The dashboard room of a user: `dashboard_admin` for an admin, the user's own for everyone else."""
    return Room("dashboard_admin") if role == "admin" else Room("dashboard_user", user)


def inbox(user: str) -> Room:
    """The room that every connection of a user is in from its beginning to its end."""
    return Room("user", user)


def chat(room_id: object) -> Room:
    """The chat room of a room id.

    Raises:
        InvalidNameError: the id does not match `ROOM_ID_RULE`.
    """
    if not isinstance(room_id, str) or not _ROOM_ID.fullmatch(room_id):
        raise InvalidNameError("roomId", room_id, ROOM_ID_RULE)
    return Room("chat", room_id)


def may_join(role: Role, user: str, room: Room) -> bool:
    """Whether a user of this role may ask for the room at all: dashboards and inboxes have one owner."""
    return room.kind == "chat" or room in (dashboard(role, user), inbox(user))


def needs_grant(role: Role, room: Room) -> bool:
    """Whether a user of this role needs a grant to join the room: chat rooms do, but not of an admin."""
    return room.kind == "chat" and role != "admin"


def may_publish(role: Role, room: Room) -> bool:
    """Whether a member of this role may publish in the room."""
    rule = KINDS[room.kind].publish
    return rule == "members" or (rule != "none" and role in rule)


def grantable(name: object) -> Room:
    """Read the name of a room that takes grants.

    Raises:
        InvalidNameError: it is not a chat room: a dashboard belongs to a role or a user, whatever is granted.
    """
    room = parse(name)
    if room.kind != "chat":
        raise InvalidNameError("room", name, "chat_room_{roomId}: only chat rooms take grants")
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
