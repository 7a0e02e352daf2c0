"""The keys and rows of the two tables, and the values that they stand for. Pure.

*Connections*: one item a connection, hash `connectionId`. *Rooms*: hash `room`, range `member`, where
`connection#{connectionId}` is a member and `user#{userId}` a grant. Next to the rooms, whose names
hold no `#`, the rooms table keeps `user#{userId}` / `revoked` and `ticket#{hash}` / `ticket`: they too are
read by their whole key only.
"""

from collections.abc import Mapping
from typing import Any

from roomcast.connection import Connection, Receiver

USER_INDEX = "UserIdIndex"
MEMBER = "connection#"
USER = GRANT = "user#"
TTL = {"#ttl": "ttl"}
MEMBER_NAME = {"#member": "member"}
"""Names that DynamoDB reserves, and how they are written in expressions."""
RECEIVER = "connectionId, connectedAt, tat, #ttl, expiresAt"
"""The attributes of a `Receiver`."""


def to_receiver(item: Mapping[str, Any]) -> Receiver:
    """Read what a projection of `RECEIVER` has."""
    return Receiver(item["connectionId"]["S"], item["connectedAt"]["S"], was_open="tat" in item)


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
    )


def rooms_of(item: Mapping[str, Any]) -> list[str]:
    """The names of the rooms that an item of the connections table lists."""
    rooms: list[str] = item.get("rooms", {}).get("SS", [])
    return rooms


def connection_key(connection_id: str) -> dict[str, Any]:
    """The key of a connection."""
    return {"connectionId": {"S": connection_id}}


def member_key(room: str, member: str) -> dict[str, Any]:
    """The key of a row of the rooms table."""
    return {"room": {"S": room}, "member": {"S": member}}


def number(value: float) -> dict[str, Any]:
    """A whole number as DynamoDB has it."""
    return {"N": str(int(value))}
