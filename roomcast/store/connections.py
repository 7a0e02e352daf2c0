"""Connections: kept at `$connect`, forgotten at `$disconnect` or when the management API says gone."""

import itertools
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

from roomcast import aws
from roomcast.connection import YOUNG_SECONDS, Connection, Identity, Receiver
from roomcast.envelope import timestamp
from roomcast.rooms import INBOX
from roomcast.rooms import inbox as inbox_of
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import (
    TTL,
    connection_key,
    membership_key,
    membership_keys,
    number,
    rooms_of,
    to_connection,
)
from roomcast.store.revocations import unless_revoked
from roomcast.store.tickets import use_ticket

CONNECTION_TTL_SECONDS = 24 * 3600
"""As LandingHub: far over the two hours that API Gateway keeps a connection open."""
_TOMBSTONE_SECONDS = 60
_NEW_OR_TOMBSTONE = (
    "attribute_not_exists(connectionId) OR connectedAt = :none AND attribute_not_exists(rooms)"
)


class Connections:
    """The connections table.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def connect(
        self, connection_id: str, identity: Identity, ticket: str | None = None
    ) -> Literal["connected", "disconnected", "revoked", "no_ticket"]:
        """Keep a new connection, as a member of its user's inbox.

        Args:
            connection_id: API Gateway's.
            identity: whose it is.
            ticket: what it was let in with; used up if the connection is kept, and only then.

        Returns:
            `disconnected` where its `$disconnect` has come already, `revoked` where the user was revoked
            after the token was issued, `no_ticket` where the ticket has been used: nothing is kept.
        """
        now = self._tables.clock()
        item: dict[str, Any] = {
            "connectionId": {"S": connection_id},
            "userId": {"S": identity.user_id},
            "userRole": {"S": identity.role},
            "userName": {"S": identity.name},
            "userEmail": {"S": identity.email},
            "connectedAt": {"S": timestamp(now)},
            "issuedAt": number(identity.issued_at),
            "ttl": number(now + CONNECTION_TTL_SECONDS),
            "expiresAt": number(identity.expires_at),
        }
        inbox = inbox_of(identity.user_id).name
        item["rooms"] = {"SS": [inbox]}
        member = {
            **membership_key(inbox, connection_id, spread=False),
            **{key: item[key] for key in ("userId", "connectedAt", "ttl", "expiresAt")},
        }
        put = {
            "TableName": self._tables.connections,
            "Item": item,
            # New, or the same one again: a put whose answer was lost may be repeated.
            "ConditionExpression": "attribute_not_exists(connectionId) OR connectedAt = :connectedAt",
            "ExpressionAttributeValues": {":connectedAt": item["connectedAt"]},
        }
        writes = [{"Put": put}, unless_revoked(self._tables, identity.user_id, identity.issued_at)]
        if ticket is not None:
            writes.append(use_ticket(self._tables, ticket))
        writes.append({"Put": {"TableName": self._tables.rooms, "Item": member}})
        try:
            self._tables.transact(*writes)
        except ConditionFailedError as error:
            outcomes: tuple[Literal["disconnected", "revoked", "no_ticket"], ...]
            outcomes = ("disconnected", "revoked", "no_ticket")
            return outcomes[error.index]
        return "connected"

    def disconnect(self, connection_id: str, accepted_at: float | None = None) -> None:
        """Forget a connection and its memberships. Doing it twice is the same as once.

        Args:
            connection_id: API Gateway's.
            accepted_at: epoch seconds at which API Gateway began to connect it, where that is known. Only
                where its `$connect` may run still, a tombstone keeps an unknown connection out.
        """
        while not self._end(connection_id):
            now = self._tables.clock()
            if accepted_at is not None and accepted_at < now - YOUNG_SECONDS:
                return
            tombstone = {**connection_key(connection_id), "connectedAt": {"S": ""}}
            tombstone["ttl"] = number(now + _TOMBSTONE_SECONDS)
            with suppress(ConditionFailedError):  # its `$connect` has come in between: look again
                self._tables.write(
                    self._tables.client.put_item,
                    TableName=self._tables.connections,
                    Item=tombstone,
                    ConditionExpression=_NEW_OR_TOMBSTONE,
                    ExpressionAttributeValues={":none": tombstone["connectedAt"]},
                )
                return

    def prune(self, receiver: Receiver, rooms: Iterable[str] = ()) -> None:
        """Forget a connection that the gateway says is gone.

        Args:
            receiver: as it was read; nothing is done if the item has another `connectedAt` by now.
            rooms: rooms that it was found in: these memberships go even where no item names them.
        """
        self._end(receiver.connection_id, receiver.connected_at, rooms)

    def extend(self, connection: Connection, identity: Identity) -> bool:
        """Let a connection and its memberships live until a newer token's end, all or none of them.

        Where it has had a token meanwhile that was issued later and ends later, nothing is changed: API
        Gateway runs actions of one connection at the same time, and the older one may come last.

        Returns:
            False where the connection is gone, or its user was revoked after the token was issued.
        """
        known = connection
        while True:
            values = {":expiresAt": number(identity.expires_at)}
            update: Any = {
                "TableName": self._tables.connections,
                "Key": connection_key(connection.connection_id),
                "UpdateExpression": "SET expiresAt = :expiresAt, issuedAt = :issuedAt",
                "ConditionExpression": "connectedAt = :connectedAt AND "
                "(attribute_not_exists(issuedAt) OR issuedAt <= :issuedAt OR expiresAt <= :expiresAt)",
                "ExpressionAttributeValues": {
                    ":connectedAt": {"S": connection.connected_at},
                    ":issuedAt": number(identity.issued_at),
                    **values,
                },
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
            members = [
                {
                    "Update": {
                        "TableName": self._tables.rooms,
                        "Key": membership_key(room, connection.connection_id, spread=room in known.spread),
                        "UpdateExpression": "SET expiresAt = :expiresAt",
                        "ConditionExpression": "attribute_exists(room)",
                        "ExpressionAttributeValues": values,
                    }
                }
                for room in known.rooms
            ]
            revoked = unless_revoked(self._tables, identity.user_id, identity.issued_at)
            try:
                self._tables.transact(revoked, {"Update": update}, *members)
            except ConditionFailedError as error:
                if error.index < 2:
                    connected_at = error.item.get("connectedAt", {}).get("S")
                    return error.index == 1 and connected_at == connection.connected_at
                done = False  # it has left a room meanwhile
            else:
                done = True
            # Read after the write: a join that is not among these has seen the new `expiresAt`, or fails.
            now = self.get(connection.connection_id)
            if now is None:
                return False
            if done and now.rooms <= known.rooms:
                return True
            known = now

    def get(self, connection_id: str) -> Connection | None:
        """Read one connection; None where it is unknown or expired."""
        item = aws.call(
            self._tables.client.get_item,
            TableName=self._tables.connections,
            Key=connection_key(connection_id),
            ConsistentRead=True,
        ).get("Item")
        return next(map(to_connection, self._tables.alive([item] if item else [])), None)

    def _end(self, connection_id: str, connected_at: str | None = None, found_in: Iterable[str] = ()) -> bool:
        """End a connection: from its first write on it gets nothing and joins nothing.

        That write makes the item a tombstone which still names the rooms; then the memberships go, and the
        item last. Whoever ends it again after a failure goes on from there.

        Args:
            connection_id: API Gateway's.
            connected_at: where it is given, a connection of another time is left alone.
            found_in: further rooms that it may be a member of.

        Returns:
            Whether there was an item.
        """
        values: dict[str, Any] = {
            ":none": {"S": ""},
            ":ttl": number(self._tables.clock() + _TOMBSTONE_SECONDS),
        }
        condition = "attribute_exists(userId)"
        if connected_at is not None:
            condition += " AND connectedAt = :connectedAt"
            values[":connectedAt"] = {"S": connected_at}
        try:
            item = self._tables.write(
                self._tables.client.update_item,
                TableName=self._tables.connections,
                Key=connection_key(connection_id),
                UpdateExpression="SET connectedAt = :none, #ttl = :ttl REMOVE userId, expiresAt",
                ConditionExpression=condition,
                ExpressionAttributeNames=TTL,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )["Attributes"]
        except ConditionFailedError as error:
            item = error.item
            if "userId" in item:
                return True  # a later connection
        unnamed = set(found_in) - set(rooms_of(item))
        self._tables.delete_rows(
            itertools.chain(
                membership_keys(connection_id, item),
                (membership_key(r, connection_id, spread=s) for r in unnamed for s in (False, True)),
            )
        )
        rooms = rooms_of(item)
        for inbox in (name for name in rooms if name.startswith(INBOX.prefix)):
            user_id = inbox.removeprefix(INBOX.prefix)  # the tombstone itself names none
            if self._tables.left is not None:
                self._tables.left(user_id, rooms)
            if self._tables.ended is not None:
                self._tables.ended(user_id, rooms, connection_id, closed=True)
        if rooms or "userRole" in item:  # not the tombstone of one that never was
            with suppress(ConditionFailedError):
                self._tables.write(
                    self._tables.client.delete_item,
                    TableName=self._tables.connections,
                    Key=connection_key(connection_id),
                    ConditionExpression="attribute_not_exists(userId)",
                )
        return bool(item)
