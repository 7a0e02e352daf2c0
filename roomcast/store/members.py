"""Members of rooms and the grants to join them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from roomcast.connection import Connection
from roomcast.envelope import timestamp
from roomcast.names import Room
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import GRANT, MEMBER, MEMBER_NAME, connection_key, member_key, number


class Members:
    """The rooms table, and the list of rooms in each connection's item.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def join(self, connection: Connection, room: Room, *, needs_grant: bool) -> bool:
        """Make a connection a member of a room. Joining twice is the same as once.

        Args:
            connection: as read.
            room: the room.
            needs_grant: whether the connection's user must have a grant for it.

        Returns:
            False where the connection is gone or the grant is missing: nothing is changed.
        """
        expires_at = number(connection.expires_at)
        update: Any = {
            "TableName": self._tables.connections,
            "Key": connection_key(connection.connection_id),
            "UpdateExpression": "ADD rooms :rooms",
            "ConditionExpression": "connectedAt = :connectedAt AND expiresAt = :expiresAt",
            "ExpressionAttributeValues": {
                ":rooms": {"SS": [room.name]},
                ":connectedAt": {"S": connection.connected_at},
                ":expiresAt": expires_at,
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        member: Any = {
            **member_key(room.name, MEMBER + connection.connection_id),
            "userId": {"S": connection.user_id},
            "connectedAt": {"S": connection.connected_at},
            "ttl": number(connection.ttl),
            "expiresAt": expires_at,
        }
        writes: list[Any] = [{"Update": update}, {"Put": {"TableName": self._tables.rooms, "Item": member}}]
        if needs_grant:
            grant = {
                "TableName": self._tables.rooms,
                "Key": member_key(room.name, GRANT + connection.user_id),
                "ConditionExpression": "attribute_exists(room)",
            }
            writes.append({"ConditionCheck": grant})
        try:
            self._tables.transact(*writes)
        except ConditionFailedError as error:
            if error.index or error.item.get("connectedAt", {}).get("S") != connection.connected_at:
                return False
            expires_at_now = int(error.item["expiresAt"]["N"])
            return self.join(replace(connection, expires_at=expires_at_now), room, needs_grant=needs_grant)
        return True

    def leave(self, connection_id: str, room: Room) -> None:
        """End a membership. Leaving a room that one is not in does nothing."""
        self._remove_member(connection_id, room.name)

    def grant(self, room: Room, user_id: str) -> None:
        """Give a user the right to join a room."""
        item = {**member_key(room.name, GRANT + user_id), "grantedAt": {"S": timestamp(self._tables.clock())}}
        self._tables.client.put_item(TableName=self._tables.rooms, Item=item)

    def revoke(self, room: Room, user_id: str) -> None:
        """Take the right back, and end the memberships that the user's connections have in the room."""
        key = member_key(room.name, GRANT + user_id)
        self._tables.client.delete_item(TableName=self._tables.rooms, Key=key)
        for connection_id in self._user_members(room, user_id):
            self._remove_member(connection_id, room.name)

    def _user_members(self, room: Room, user_id: str) -> Iterator[str]:
        """The user's connections that are members of the room."""
        members = query_members(
            self._tables,
            room,
            {":user": {"S": user_id}},
            FilterExpression="userId = :user",
            ProjectionExpression="#member",
            ExpressionAttributeNames=MEMBER_NAME,
        )
        return (item["member"]["S"].removeprefix(MEMBER) for item in members)

    def _remove_member(self, connection_id: str, room: str) -> None:
        delete: Any = {"TableName": self._tables.rooms, "Key": member_key(room, MEMBER + connection_id)}
        update: Any = {
            "TableName": self._tables.connections,
            "Key": connection_key(connection_id),
            "UpdateExpression": "DELETE rooms :rooms",
            "ConditionExpression": "attribute_exists(userId)",  # an update must not create the item
            "ExpressionAttributeValues": {":rooms": {"SS": [room]}},
        }
        # One transaction: between two writes a join could come, and leave a member that no item names.
        try:
            self._tables.transact({"Delete": delete}, {"Update": update})
        except ConditionFailedError:
            self._tables.client.delete_item(**delete)


def query_members(
    tables: Tables, room: Room, values: Mapping[str, Any] | None = None, **more: Any
) -> Iterator[dict[str, Any]]:
    """The members of a room, expired ones too: consistent Queries of that room."""
    pages = tables.client.get_paginator("query").paginate(
        TableName=tables.rooms,
        KeyConditionExpression="room = :room AND begins_with(#member, :member)",
        ExpressionAttributeValues={
            ":room": {"S": room.name},
            ":member": {"S": MEMBER},
            **(values or {}),
        },
        ConsistentRead=True,
        **more,
    )
    for page in pages:
        yield from page["Items"]


def forget_members(tables: Tables, connection_id: str, rooms: Iterable[str]) -> None:
    """Delete a connection's memberships."""
    tables.delete_rows(member_key(room, MEMBER + connection_id) for room in rooms)
