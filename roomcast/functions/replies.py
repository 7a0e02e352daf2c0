"""What the engine's replies hold, as the client gets it."""

from typing import TypedDict


class Place(TypedDict):
    """A position in a room's stream, as clients have it."""

    epoch: str
    seq: int


class Kept(TypedDict):
    """How much a room keeps."""

    seconds: int
    messages: int


class Present(TypedDict, total=False):
    """Which users are in a room, or only how many."""

    version: int
    count: int
    listed: bool
    users: list[dict[str, str]]


class Missed(TypedDict, total=False):
    """What a join says of a room's history, and of presence: nothing where neither `since` nor `position` was
    given. `members` is about how many there are, in a large room."""

    epoch: str
    seq: int
    history: Kept
    members: int
    wasRecovering: bool
    recovered: bool
    messages: list[object]
    more: bool
    presence: Present


class Published(TypedDict, total=False):
    """A message that a client has published: its id, and its position where the room keeps a history."""

    id: str
    seq: int
    epoch: str
