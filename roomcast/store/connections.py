"""Connections: kept at `$connect`, forgotten at `$disconnect` or when the management API says gone."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal

from roomcast.connection import Connection, Identity, Receiver
from roomcast.envelope import timestamp
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import MEMBER, connection_key, member_key, number, rooms_of, to_connection
from roomcast.store.members import forget_members
from roomcast.store.revocations import unless_revoked

CONNECTION_TTL_SECONDS = 24 * 3600
"""As LandingHub: far over the two hours that API Gateway keeps a connection open."""
_TOMBSTONE_SECONDS = 60


class Connections:
    """The connections table.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def connect(
        self, connection_id: str, identity: Identity
    ) -> Literal["connected", "disconnected", "revoked"]:
        """Keep a new connection.

        Returns:
            `disconnected` where its `$disconnect` has come already, `revoked` where the user was revoked
            after the token was issued: nothing is kept.
        """
        now = self._tables.clock()
        item: dict[str, Any] = {
            "connectionId": {"S": connection_id},
            "userId": {"S": identity.user_id},
            "userRole": {"S": identity.role},
            "userName": {"S": identity.name},
            "userEmail": {"S": identity.email},
            "connectedAt": {"S": timestamp(now)},
            "ttl": number(now + CONNECTION_TTL_SECONDS),
            "expiresAt": number(identity.expires_at),
        }
        put = {"TableName": self._tables.connections, "Item": item, **_new(item)}
        try:
            self._tables.transact({"Put": put}, unless_revoked(self._tables, identity))
        except ConditionFailedError as error:
            return "revoked" if error.index else "disconnected"
        return "connected"

    def disconnect(self, connection_id: str) -> None:
        """Forget a connection and its memberships. Doing it twice is the same as once."""
        deleted = self._delete(connection_id)
        if deleted:
            forget_members(self._tables, connection_id, rooms_of(deleted))
        else:
            ttl = number(self._tables.clock() + _TOMBSTONE_SECONDS)
            tombstone = {**connection_key(connection_id), "connectedAt": {"S": ""}, "ttl": ttl}
            with suppress(ConditionFailedError):  # it has connected meanwhile, and will be told again
                self._tables.write(
                    self._tables.client.put_item,
                    TableName=self._tables.connections,
                    Item=tombstone,
                    **_new(tombstone),
                )

    def prune(self, receiver: Receiver, rooms: Iterable[str] = ()) -> None:
        """Forget a connection that the gateway says is gone.

        Args:
            receiver: as it was read; nothing is done if the item has another `connectedAt` by now.
            rooms: rooms that it was found in, in addition to those that its item names.
        """
        try:
            deleted = self._delete(
                receiver.connection_id,
                ConditionExpression="attribute_not_exists(connectionId) OR connectedAt = :connectedAt",
                ExpressionAttributeValues={":connectedAt": {"S": receiver.connected_at}},
            )
        except ConditionFailedError:
            return
        forget_members(self._tables, receiver.connection_id, {*rooms, *rooms_of(deleted)})

    def extend(self, connection: Connection, identity: Identity) -> bool:
        """Let a connection and its memberships live until a newer token's end.

        Returns:
            False where the connection is gone, or its user was revoked after the token was issued.
        """
        expires_at = {":expiresAt": number(identity.expires_at)}
        update: Any = {
            "TableName": self._tables.connections,
            "Key": connection_key(connection.connection_id),
            "UpdateExpression": "SET expiresAt = :expiresAt",
            "ConditionExpression": "connectedAt = :connectedAt",
            "ExpressionAttributeValues": {":connectedAt": {"S": connection.connected_at}, **expires_at},
        }
        try:
            self._tables.transact({"Update": update}, unless_revoked(self._tables, identity))
        except ConditionFailedError:
            return False
        # Read after the write: a join that is not among these has seen the new `expiresAt`, or sees it fail.
        for room in (self.get(connection.connection_id) or connection).rooms:
            with suppress(ConditionFailedError):  # it has left that room meanwhile
                self._tables.write(
                    self._tables.client.update_item,
                    TableName=self._tables.rooms,
                    Key=member_key(room, MEMBER + connection.connection_id),
                    UpdateExpression="SET expiresAt = :expiresAt",
                    ConditionExpression="attribute_exists(room)",
                    ExpressionAttributeValues=expires_at,
                )
        return True

    def get(self, connection_id: str) -> Connection | None:
        """Read one connection; None where it is unknown or expired."""
        item = self._tables.client.get_item(
            TableName=self._tables.connections, Key=connection_key(connection_id), ConsistentRead=True
        ).get("Item")
        return next(map(to_connection, self._tables.alive([item] if item else [])), None)

    def _delete(self, connection_id: str, **condition: Any) -> dict[str, Any]:
        """Delete a connection's item and return it, empty where there was none."""
        answer = self._tables.write(
            self._tables.client.delete_item,
            TableName=self._tables.connections,
            Key=connection_key(connection_id),
            ReturnValues="ALL_OLD",
            **condition,
        )
        deleted: dict[str, Any] = answer.get("Attributes", {})
        return deleted


def _new(item: Mapping[str, Any]) -> dict[str, Any]:
    """The condition that a connection is new, or the same: botocore repeats a put whose answer was lost."""
    return {
        "ConditionExpression": "attribute_not_exists(connectionId) OR connectedAt = :connectedAt",
        "ExpressionAttributeValues": {":connectedAt": item["connectedAt"]},
    }
