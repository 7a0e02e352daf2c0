"""Connections for people to look at: what `roomcast inspect` shows."""

from collections.abc import Iterator

from roomcast import aws
from roomcast.connection import Connection
from roomcast.rooms import Room
from roomcast.store.dynamodb import Tables
from roomcast.store.items import TTL, to_connection
from roomcast.store.receivers import Receivers, user_connection_ids

_ATTRIBUTES = "connectionId, userId, userRole, userName, rooms, connectedAt, #ttl, expiresAt"


class Listing:
    """Reads whole connections.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def of_everybody(self) -> Iterator[Connection]:
        """Every connection, by a paged Scan of the connections table."""
        pages = self._tables.pages(
            self._tables.client.scan,
            TableName=self._tables.connections,
            # What `Connection` has: the price is the same, but reading the answer takes time too.
            ProjectionExpression=_ATTRIBUTES,
            ExpressionAttributeNames=TTL,
        )
        for page in pages:
            yield from map(to_connection, self._tables.alive(page["Items"]))

    def of_user(self, user_id: str) -> Iterator[Connection]:
        """A user's connections: a Query and a BatchGetItem."""
        ids = user_connection_ids(self._tables, user_id)
        return map(to_connection, self._tables.alive(self._tables.read(ids)))

    def of_room(self, room: Room) -> Iterator[Connection]:
        """The members of a room: a Query and a BatchGetItem."""
        ids = (receiver.connection_id for receiver in Receivers(self._tables).of_room(room))
        return map(to_connection, self._tables.alive(self._tables.read(ids)))

    def size(self) -> tuple[int, int]:
        """About how many connections there are, and their bytes: DynamoDB counts every six hours."""
        answer = aws.call(self._tables.client.describe_table, TableName=self._tables.connections)
        table = answer["Table"]
        return table["ItemCount"], table["TableSizeBytes"]
