"""The keys and rows of the two tables, and the values that they stand for. Pure.

*Connections*: one item a connection, hash `connectionId`. An item without `userId` is a tombstone: the
connection has ended, or may not begin.

*Rooms*: hash `room`, range `member`:

| `room` | `member` | is |
|---|---|---|
| `{room}` | `connection#{connectionId}` | a member |
| `{room}` | `connection#` | the note that the room is spread; it comes before the members |
| `{room}#{partition}` | `connection#{connectionId}` | a member of a room that is spread |
| `grant#{room}#{userId}` | `grant` | a grant, and where the room's stream was then |
| `user#{userId}` | `revoked` | since when the user is kept out |
| `user#{userId}` | `sends`, `signals` | how much of its rate the user has used up |
| `presence#{room}` | `head` | the version of a room's presence |
| `presence#{room}` | `user#{userId}` | a user who is, or was just, present |
| `user#{userId}` | `events` | the number of the user's last server event, where the stage has them on |
| `ticket#{hash}` | `ticket` | a one-time ticket |
| `stage#size` | `size` | how many connections there are |

No name of a room and no user id holds a `#`. Grants, revocations and tickets have a hash of their own each,
so that they load no room's partition: DynamoDB writes 1,000 units a second to one.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from roomcast.connection import Connection, Receiver

USER_INDEX = "UserIdIndex"
MEMBER = "connection#"
USER = "user#"
PARTITIONS = 16
"""Over how many partitions a large room's members are spread."""
TTL = {"#ttl": "ttl"}
MEMBER_NAME = {"#member": "member"}
"""Names that DynamoDB reserves, and how they are written in expressions."""
RECEIVER = "connectionId, connectedAt, tat, #ttl, expiresAt"
"""The attributes of a `Receiver`."""


def to_receiver(item: Mapping[str, Any]) -> Receiver:
    """Read what a projection of `RECEIVER` has."""
    return Receiver(
        item["connectionId"]["S"],
        item["connectedAt"]["S"],
        was_open="tat" in item,
        expires_at=int(item["expiresAt"]["N"]),
    )


class Grant(NamedTuple):
    """Since when a user may be in a room.

    Attributes:
        at: epoch seconds.
        epoch: of the room's stream at that time; None where it keeps no history.
        seq: the number of the last message that the user may not see; likewise.
    """

    at: float
    epoch: str | None = None
    seq: int | None = None


def to_grant(item: Mapping[str, Any]) -> Grant:
    """Read a grant."""
    from datetime import datetime  # no cold start needs it

    return Grant(
        datetime.fromisoformat(item["grantedAt"]["S"]).timestamp(),
        item.get("epoch", {}).get("S"),
        int(item["headSeq"]["N"]) if "headSeq" in item else None,
    )


def to_connection(item: Mapping[str, Any]) -> Connection:
    """Read a whole item of the connections table."""
    return Connection(
        connection_id=item["connectionId"]["S"],
        user_id=item["userId"]["S"],
        role="admin" if item["userRole"]["S"] == "admin" else "user",
        connected_at=item["connectedAt"]["S"],
        ttl=int(item["ttl"]["N"]),
        expires_at=int(item["expiresAt"]["N"]),
        rooms=frozenset(rooms_of(item)),
        name=item.get("userName", {}).get("S", ""),
        issued_at=int(item.get("issuedAt", {}).get("N", 0)),
        spread=frozenset(rooms_of(item, "spread")),
    )


def rooms_of(item: Mapping[str, Any], attribute: str = "rooms") -> list[str]:
    """The names of the rooms that an item of the connections table lists."""
    rooms: list[str] = item.get(attribute, {}).get("SS", [])
    return rooms


def membership_keys(connection_id: str, item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The keys of the memberships that a connection's item names."""
    spread = set(rooms_of(item, "spread"))
    for room in rooms_of(item):
        yield membership_key(room, connection_id, spread=room in spread)


def membership_key(room: str, connection_id: str, *, spread: bool) -> dict[str, Any]:
    """The key of a member of a room."""
    partition = partition_name(room, zlib.crc32(connection_id.encode()) % PARTITIONS) if spread else room
    return member_key(partition, MEMBER + connection_id)


def partition_name(room: str, number: int) -> str:
    """The hash of one of the partitions of a large room."""
    return f"{room}#{number}"


def grant_key(room: str, user_id: str) -> dict[str, Any]:
    """The key of a grant."""
    return member_key(f"grant#{room}#{user_id}", "grant")


def connection_key(connection_id: str) -> dict[str, Any]:
    """The key of a connection."""
    return {"connectionId": {"S": connection_id}}


def member_key(room: str, member: str) -> dict[str, Any]:
    """The key of a row of the rooms table."""
    return {"room": {"S": room}, "member": {"S": member}}


def number(value: float) -> dict[str, Any]:
    """A whole number as DynamoDB has it."""
    return {"N": str(int(value))}
