"""Who is at the other end: an identity, its connections, and where a send goes. Pure."""

from dataclasses import dataclass

from roomcast.envelope import timestamp
from roomcast.names import Role

YOUNG_SECONDS = 5.0
"""`$connect` writes the item as its last act, so a connection is open well within this time of it."""


@dataclass(frozen=True, slots=True)
class Identity:
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


@dataclass(frozen=True, slots=True)
class Connection:
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
    """

    connection_id: str
    user_id: str
    role: Role
    connected_at: str
    ttl: int
    expires_at: int
    rooms: frozenset[str]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a send goes.

    Attributes:
        connection_id: the connection to post to.
        connected_at: ISO 8601, as stored.
        was_open: whether it has sent a message, so that it cannot be one that is not open yet.
    """

    connection_id: str
    connected_at: str
    was_open: bool = False

    def young(self, now: float) -> bool:
        """Whether the connection may not be open yet, so that a 410 proves nothing."""
        return not self.was_open and self.connected_at > timestamp(now - YOUNG_SECONDS)
