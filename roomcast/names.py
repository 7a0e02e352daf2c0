"""The grammar of ids: of users, rooms, connections and sends. Pure."""

import re
from typing import Literal

from roomcast.errors import InvalidNameError

Role = Literal["admin", "user"]
HookEvent = Literal["connected", "disconnected", "joined", "left", "published"]
"""What the engine lets others know of: hooks of the application, and a bus of EventBridge."""

OBSERVER = "roomcast-tail"
"""The user as whom `roomcast tail` watches a room: not one of the people in it."""

USER_ID_RULE = "a string of 1 to 128 of the characters A-Z a-z 0-9 _ . @ | : + -"
ROOM_ID_RULE = "a string of 1 to 64 of the characters A-Z a-z 0-9 _ . : -"
_USER_ID = re.compile(r"[A-Za-z0-9_.@|:+-]{1,128}")
_ROOM_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_MAX_CHARS = 128


def user_id(value: object) -> str:
    """Check a user id.

    Raises:
        InvalidNameError: it does not match `USER_ID_RULE`.
    """
    if not isinstance(value, str) or not _USER_ID.fullmatch(value):
        raise InvalidNameError("user id", value, USER_ID_RULE)
    return value


def room_id(value: object) -> str:
    """Check the id in a room's name.

    Raises:
        InvalidNameError: it does not match `ROOM_ID_RULE`.
    """
    if not isinstance(value, str) or not _ROOM_ID.fullmatch(value):
        raise InvalidNameError("room id", value, ROOM_ID_RULE)
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
