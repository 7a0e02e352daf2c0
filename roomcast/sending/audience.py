"""Who gets a send: a user, a room, everybody, or one connection. The targets that a job names.

Each reads the store: `pages` everybody, page by page, `page_size` as there, and `slices` the parts of it
that jobs read. Its `target` is the room that may keep the send, `partition` the room whose rows of members
they are, and `room` what an envelope names where the target keeps no history.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from roomcast import names
from roomcast.connection import Receiver
from roomcast.errors import InvalidNameError, JobError
from roomcast.rooms import Room, Rooms, inbox
from roomcast.store import Store
from roomcast.store.receivers import Slice


@dataclass(frozen=True, slots=True)
class ToUser:
    """Every connection of a user: they are the members of its inbox."""

    user_id: str
    room: None = None

    @property
    def target(self) -> Room:
        """The inbox."""
        return inbox(self.user_id)

    @property
    def partition(self) -> str:
        """The inbox's name."""
        return self.target.name

    def pages(self, store: Store, *, page_size: int | None = None) -> Iterator[list[Receiver]]:
        """The user's connections."""
        return store.receivers.pages_of_room(self.target, page_size=page_size)

    def slices(self, store: Store) -> list[Slice]:
        """The inbox, which is never large."""
        del store
        return [Slice(self.target.name)]

    def dump(self) -> dict[str, object]:
        """The form in a job."""
        return {"user": self.user_id}


@dataclass(frozen=True, slots=True)
class ToRoom:
    """Every member of a room."""

    target: Room

    @property
    def room(self) -> str:
        """The room's name, which every envelope carries."""
        return self.target.name

    @property
    def partition(self) -> str:
        """The same."""
        return self.target.name

    def pages(self, store: Store, *, page_size: int | None = None) -> Iterator[list[Receiver]]:
        """The room's members."""
        return store.receivers.pages_of_room(self.target, page_size=page_size)

    def slices(self, store: Store) -> list[Slice]:
        """The room's partitions."""
        return store.receivers.slices_of_room(self.target)

    def dump(self) -> dict[str, object]:
        """The form in a job."""
        return {"room": self.room}


@dataclass(frozen=True, slots=True)
class Everybody:
    """Every connection of the stage. Its target is the room `all`, where that is declared."""

    target: Room | None = None
    room: None = None
    partition: None = None

    def pages(self, store: Store, *, page_size: int | None = None) -> Iterator[list[Receiver]]:
        """All connections."""
        return store.receivers.pages_of_everybody(page_size=page_size)

    def slices(self, store: Store) -> list[Slice]:
        """Segments of the connections table."""
        return store.receivers.slices_of_everybody()

    def dump(self) -> dict[str, object]:
        """The form in a job."""
        return {"all": True}


Audience = ToUser | ToRoom | Everybody


def of_room(room: Room) -> Audience:
    """Who is in a room: its members, or everybody."""
    return Everybody(room) if room.kind.is_everybody else ToRoom(room)


def parse(to: object, rooms: Rooms) -> Audience:
    """Read the target of a job.

    Args:
        to: as it is in the job.
        rooms: the kinds of room that there are.

    Raises:
        JobError: it has none of the three forms, or its name is outside its grammar.
    """
    try:
        match to:
            case {"user": user, **rest} if not rest:
                return ToUser(names.user_id(user))
            case {"room": room, **rest} if not rest:
                return of_room(rooms.parse(room))
            case {"all": True, **rest} if not rest:
                return Everybody(rooms.everybody)
    except InvalidNameError as error:
        raise JobError(f"to: {error}") from None
    raise JobError('to must be {"user": ...}, {"room": ...} or {"all": true}')
