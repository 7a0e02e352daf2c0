"""Who is at the other end: an identity, its connections, and where a send goes. Pure."""

from typing import NamedTuple

from roomcast.envelope import timestamp
from roomcast.names import Role

YOUNG_SECONDS = 20.0
"""A connection may not be open yet until this time after its `connectedAt`: the function of `$connect` has 10
seconds, of which retries may take most, and clocks may differ by 10."""


class Identity(NamedTuple):
    """Who a connection belongs to.

    Attributes:
        user_id: from the claim `userId`, `sub` or `id`.
        role: `admin` if the claim `role` says so, else `user`.
        name: the claim `name`, or empty.
        email: the claim `email`, or empty.
        expires_at: epoch seconds, from `exp`.
        issued_at: epoch seconds, from `iat`; 0 where the token has none.
    """

    user_id: str
    role: Role
    name: str
    email: str
    expires_at: int
    issued_at: int


class Connection(NamedTuple):
    """A connection as the actions need it.

    Attributes:
        connection_id: API Gateway's.
        user_id: whose it is.
        role: `admin` or `user`.
        connected_at: ISO 8601, as stored.
        ttl: epoch seconds from which DynamoDB may delete its items.
        expires_at: epoch seconds at which its token ends.
        rooms: the names of the rooms that it is a member of.
        name: of the user, to show.
        issued_at: epoch seconds at which its token was issued; 0 where that is not known.
        spread: those of the rooms in which it is a member of one of the room's partitions.
        asked: when the client asked for the action at hand, so that later actions are greater; empty where
            that is not known.
    """

    connection_id: str
    user_id: str
    role: Role
    connected_at: str
    ttl: int
    expires_at: int
    rooms: frozenset[str]
    name: str = ""
    issued_at: int = 0
    spread: frozenset[str] = frozenset()
    asked: str = ""


class Receiver(NamedTuple):
    """Where a send goes.

    Attributes:
        connection_id: the connection to post to.
        connected_at: ISO 8601, as stored.
        was_open: whether it has sent a message, so that it cannot be one that is not open yet.
        expires_at: epoch seconds at which its token ends; None where that is not known.
    """

    connection_id: str
    connected_at: str
    was_open: bool = False
    expires_at: int | None = None

    def young(self, now: float) -> bool:
        """Whether the connection may not be open yet, so that a 410 proves nothing."""
        return not self.was_open and self.connected_at > timestamp(now - YOUNG_SECONDS)
