"""The only file that knows DynamoDB: who is connected, who is a member of which room, who has a grant.

Two tables. *Connections*: one item a connection, hash `connectionId`, with the index `UserIdIndex`
(hash `userId`, keys only). *Rooms*: hash `room`, range `member`, where `connection#{connectionId}` is a
member and `user#{userId}` a grant.

DynamoDB deletes expired items up to days late, so every read here leaves out what is past its `ttl` or
whose token is past its `expiresAt`.

The races, each with its rule:

- *Join against disconnect.* A join is one transaction that needs the connection's item to be there, and the
  disconnect deletes that item first and takes the list of rooms from what it deleted. Whichever commits
  first, no member is left behind.
- *Join against revoke.* The same transaction needs the grant; a revoke deletes the grant first and then
  looks for members with a consistent read. Whichever commits first, no member is left.
- *`$disconnect` before `$connect` has written.* The disconnect leaves a tombstone for a minute, on which the
  connect's conditional write fails.
- *A 410 that means "not open yet".* `Receiver.young` tells; such a connection is not pruned.
- *Prune against a later connection.* A prune is conditional on the `connectedAt` that the sender has read.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.exceptions import ClientError

from realtime.auth import Identity
from realtime.envelope import timestamp
from realtime.rooms import Role, Room
from realtime.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONNECTION_TTL_SECONDS = 24 * 3600
"""As LandingHub: far over the two hours that API Gateway keeps a connection open."""
YOUNG_SECONDS = 5.0
"""`$connect` writes the item as its last act, so a connection is open well within this time of it."""
_TOMBSTONE_SECONDS = 60
_USER_INDEX = "UserIdIndex"
_MEMBER = "connection#"
_GRANT = "user#"
_BATCH_GET = 100  # items in a BatchGetItem (DynamoDB's limit)
_BATCH_WRITE = 25  # items in a BatchWriteItem (DynamoDB's limit)
_ATTEMPTS = 5  # for transactions that met another one on the same item, and unprocessed batch items

_ALIVE = "#ttl > :now AND expiresAt > :now"
_ALIVE_NAMES = {"#ttl": "ttl"}


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as the actions need it.

    Attributes:
        connection_id: API Gateway's.
        user_id: whose it is.
        role: `admin` or `user`.
        connected_at: ISO 8601, as stored.
        ttl: epoch seconds at which its items may go.
        expires_at: epoch seconds at which its token ends.
    """

    connection_id: str
    user_id: str
    role: Role
    connected_at: str
    ttl: int
    expires_at: int


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


class Store:
    """The two tables.

    Args:
        client: a botocore client for `dynamodb`.
        connections_table: its name.
        rooms_table: its name.
        clock: epoch seconds.

    Every method may raise `botocore.exceptions.ClientError` when DynamoDB refuses, after botocore's own
    retries.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        connections_table: str,
        rooms_table: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._connections = connections_table
        self._rooms = rooms_table
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: Settings, session: botocore.session.Session | None = None) -> "Store":
        """Make a store with a client of its own.

        Args:
            settings: the tables' names.
            session: botocore's, where the caller has one; region, credentials and `AWS_ENDPOINT_URL` are its.
        """
        client: Any = (session or botocore.session.get_session()).create_client("dynamodb")
        return cls(client, settings.connections_table, settings.rooms_table)

    # Connections

    def connect(self, connection_id: str, identity: Identity) -> bool:
        """Keep a new connection.

        Returns:
            False where its `$disconnect` has come already: nothing is kept.
        """
        now = self._clock()
        item: dict[str, Any] = {
            "connectionId": {"S": connection_id},
            "userId": {"S": identity.user_id},
            "userRole": {"S": identity.role},
            "userName": {"S": identity.name},
            "userEmail": {"S": identity.email},
            "connectedAt": {"S": timestamp(now)},
            "ttl": _number(now + CONNECTION_TTL_SECONDS),
            "expiresAt": _number(identity.expires_at),
        }
        return self._put_new(item)

    def disconnect(self, connection_id: str) -> None:
        """Forget a connection and its memberships. Doing it twice is the same as once."""
        deleted = self._delete_connection(connection_id)
        if deleted:
            self._forget_members(connection_id, _rooms_of(deleted))
        else:
            ttl = _number(self._clock() + _TOMBSTONE_SECONDS)
            closed = {"connectedAt": {"S": ""}, "ttl": ttl}
            self._put_new({**_connection_key(connection_id), **closed})

    def prune(self, receiver: Receiver, rooms: Iterable[str] = ()) -> None:
        """Forget a connection that the gateway says is gone.

        Args:
            receiver: as it was read; nothing is done if the item has another `connectedAt` by now.
            rooms: rooms that it was found in, beside those that its item names.
        """
        deleted = self._delete_connection(
            receiver.connection_id,
            ConditionExpression="attribute_not_exists(connectionId) OR connectedAt = :connectedAt",
            ExpressionAttributeValues={":connectedAt": {"S": receiver.connected_at}},
        )
        if deleted is not None:
            self._forget_members(receiver.connection_id, {*rooms, *_rooms_of(deleted)})

    def connection(self, connection_id: str) -> Connection | None:
        """Read one connection; None where it is unknown or expired."""
        item = self._client.get_item(
            TableName=self._connections, Key=_connection_key(connection_id), ConsistentRead=True
        ).get("Item")
        return _connection(item) if item and self._alive(item) else None

    # Rooms

    def join(self, connection: Connection, room: Room, *, needs_grant: bool) -> bool:
        """Make a connection a member of a room. Joining twice is the same as once.

        Args:
            connection: as read.
            room: the room.
            needs_grant: whether the connection's user must have a grant for it.

        Returns:
            False where the connection is gone or the grant is missing: nothing is changed.
        """
        update: dict[str, Any] = {
            "TableName": self._connections,
            "Key": _connection_key(connection.connection_id),
            "UpdateExpression": "ADD rooms :rooms",
            "ConditionExpression": "connectedAt = :connectedAt",
            "ExpressionAttributeValues": {
                ":rooms": {"SS": [room.name]},
                ":connectedAt": {"S": connection.connected_at},
            },
        }
        member: dict[str, Any] = {
            **_member_key(room.name, _MEMBER + connection.connection_id),
            "userId": {"S": connection.user_id},
            "connectedAt": {"S": connection.connected_at},
            "ttl": _number(connection.ttl),
            "expiresAt": _number(connection.expires_at),
        }
        writes: list[Any] = [{"Update": update}, {"Put": {"TableName": self._rooms, "Item": member}}]
        if needs_grant:
            grant = {
                "TableName": self._rooms,
                "Key": _member_key(room.name, _GRANT + connection.user_id),
                "ConditionExpression": "attribute_exists(room)",
            }
            writes.append({"ConditionCheck": grant})
        return self._conditional(self._client.transact_write_items, TransactItems=writes) is not None

    def leave(self, connection_id: str, room: Room) -> None:
        """End a membership. Leaving a room that one is not in does nothing."""
        self._remove_member(connection_id, room.name)

    def grant(self, room: Room, user_id: str) -> None:
        """Give a user the right to join a room."""
        item = {**_member_key(room.name, _GRANT + user_id), "grantedAt": {"S": timestamp(self._clock())}}
        self._client.put_item(TableName=self._rooms, Item=item)

    def revoke(self, room: Room, user_id: str) -> None:
        """Take the right back, and end the memberships that the user's connections have in the room."""
        self._client.delete_item(TableName=self._rooms, Key=_member_key(room.name, _GRANT + user_id))
        for item in self._query_members(room.name, "userId = :user", **{":user": {"S": user_id}}):
            self._remove_member(item["member"]["S"].removeprefix(_MEMBER), room.name)

    # Receivers of a send

    def room_receivers(self, room: Room) -> Iterator[Receiver]:
        """The members of a room: Queries of that room alone, consistent, so that a member whose join was
        answered is among them."""
        for item in self._query_members(room.name, _ALIVE, **{":now": _number(self._clock())}):
            connection_id = item["member"]["S"].removeprefix(_MEMBER)
            yield Receiver(connection_id, item["connectedAt"]["S"], was_open=True)

    def user_receivers(self, user_id: str) -> Iterator[Receiver]:
        """A user's connections.

        The index is keys only and eventually consistent: it may lag a connect by some milliseconds. The items
        are read behind it, since an index without `expiresAt` cannot tell an expired token.
        """
        pages = self._client.get_paginator("query").paginate(
            TableName=self._connections,
            IndexName=_USER_INDEX,
            KeyConditionExpression="userId = :user",
            ExpressionAttributeValues={":user": {"S": user_id}},
        )
        for page in pages:
            ids = [item["connectionId"]["S"] for item in page["Items"]]
            for start in range(0, len(ids), _BATCH_GET):
                yield from self._receivers(ids[start : start + _BATCH_GET])

    def receiver(self, connection_id: str) -> Receiver | None:
        """One connection; None where it is unknown or expired."""
        return next(self._receivers([connection_id]), None)

    def all_receivers(self) -> Iterator[Receiver]:
        """Every connection, by a paged Scan of the connections table."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._connections,
            ProjectionExpression="connectionId, connectedAt",
            FilterExpression=_ALIVE,
            ExpressionAttributeNames=_ALIVE_NAMES,
            ExpressionAttributeValues={":now": _number(self._clock())},
        )
        for page in pages:
            for item in page["Items"]:
                yield Receiver(item["connectionId"]["S"], item["connectedAt"]["S"])

    # Inside

    def _put_new(self, item: Mapping[str, Any]) -> bool:
        """Put a connection's item. False where there is one already."""
        put = self._conditional(
            self._client.put_item,
            TableName=self._connections,
            Item=item,
            # The second half is for a put that botocore repeats because its answer was lost.
            ConditionExpression="attribute_not_exists(connectionId) OR connectedAt = :connectedAt",
            ExpressionAttributeValues={":connectedAt": item["connectedAt"]},
        )
        return put is not None

    def _delete_connection(self, connection_id: str, **condition: Any) -> dict[str, Any] | None:
        """Delete a connection's item and return it, empty where there was none; None where the condition
        failed."""
        answer = self._conditional(
            self._client.delete_item,
            TableName=self._connections,
            Key=_connection_key(connection_id),
            ReturnValues="ALL_OLD",
            **condition,
        )
        return None if answer is None else answer.get("Attributes", {})

    def _receivers(self, connection_ids: Sequence[str]) -> Iterator[Receiver]:
        if not connection_ids:
            return
        wanted: Any = {
            self._connections: {
                "Keys": [_connection_key(connection_id) for connection_id in connection_ids],
                "ProjectionExpression": "connectionId, connectedAt, #ttl, expiresAt",
                "ExpressionAttributeNames": _ALIVE_NAMES,
                "ConsistentRead": True,
            }
        }
        for attempt in range(_ATTEMPTS):
            answer = self._client.batch_get_item(RequestItems=wanted)
            for item in answer["Responses"].get(self._connections, []):
                if self._alive(item):
                    yield Receiver(item["connectionId"]["S"], item["connectedAt"]["S"])
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                return
            _back_off(attempt)
        raise _unprocessed("BatchGetItem")

    def _query_members(self, room: str, condition: str, **values: Any) -> Iterator[dict[str, Any]]:
        """The members of a room for whose items the condition holds."""
        names = {
            "#member": "member",
            **{name: real for name, real in _ALIVE_NAMES.items() if name in condition},
        }
        pages = self._client.get_paginator("query").paginate(
            TableName=self._rooms,
            KeyConditionExpression="room = :room AND begins_with(#member, :member)",
            FilterExpression=condition,
            ProjectionExpression="#member, connectedAt",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={":room": {"S": room}, ":member": {"S": _MEMBER}, **values},
            ConsistentRead=True,
        )
        for page in pages:
            yield from page["Items"]

    def _remove_member(self, connection_id: str, room: str) -> None:
        delete: Any = {"TableName": self._rooms, "Key": _member_key(room, _MEMBER + connection_id)}
        update: Any = {
            "TableName": self._connections,
            "Key": _connection_key(connection_id),
            "UpdateExpression": "DELETE rooms :rooms",
            "ConditionExpression": "attribute_exists(userId)",  # an update must not create the item
            "ExpressionAttributeValues": {":rooms": {"SS": [room]}},
        }
        # One transaction: between two writes a join could come, and leave a member that no item names.
        writes = [{"Delete": delete}, {"Update": update}]
        if self._conditional(self._client.transact_write_items, TransactItems=writes) is None:
            self._client.delete_item(**delete)

    def _forget_members(self, connection_id: str, rooms: Iterable[str]) -> None:
        deletes: list[Any] = [
            {"DeleteRequest": {"Key": _member_key(room, _MEMBER + connection_id)}} for room in rooms
        ]
        for start in range(0, len(deletes), _BATCH_WRITE):
            wanted: Any = {self._rooms: deletes[start : start + _BATCH_WRITE]}
            for attempt in range(_ATTEMPTS):
                wanted = self._client.batch_write_item(RequestItems=wanted).get("UnprocessedItems")
                if not wanted:
                    break
                _back_off(attempt)
            else:
                raise _unprocessed("BatchWriteItem")

    def _conditional(self, write: Callable[..., Any], **arguments: Any) -> dict[str, Any] | None:
        """Do one write, again where a transaction was on the same item. None where its condition failed."""
        for attempt in itertools.count():
            try:
                answer: dict[str, Any] = write(**arguments)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                canceled: Any = error.response.get("CancellationReasons", ())
                codes = {code, *(reason.get("Code") for reason in canceled)}
                if codes & {"ConditionalCheckFailedException", "ConditionalCheckFailed"}:
                    return None
                conflict = codes & {"TransactionConflictException", "TransactionConflict"}
                if not conflict or attempt + 1 == _ATTEMPTS:
                    raise
                _back_off(attempt)
            else:
                return answer
        raise AssertionError("unreachable")

    def _alive(self, item: Mapping[str, Any]) -> bool:
        now = self._clock()
        return all(float(item.get(key, {"N": "0"})["N"]) > now for key in ("ttl", "expiresAt"))


def _connection(item: Mapping[str, Any]) -> Connection:
    return Connection(
        connection_id=item["connectionId"]["S"],
        user_id=item["userId"]["S"],
        role="admin" if item["userRole"]["S"] == "admin" else "user",
        connected_at=item["connectedAt"]["S"],
        ttl=int(item["ttl"]["N"]),
        expires_at=int(item["expiresAt"]["N"]),
    )


def _rooms_of(item: Mapping[str, Any]) -> list[str]:
    rooms: list[str] = item.get("rooms", {}).get("SS", [])
    return rooms


def _connection_key(connection_id: str) -> dict[str, Any]:
    return {"connectionId": {"S": connection_id}}


def _member_key(room: str, member: str) -> dict[str, Any]:
    return {"room": {"S": room}, "member": {"S": member}}


def _number(value: float) -> dict[str, Any]:
    return {"N": str(int(value))}


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311  full jitter needs no secrecy


def _unprocessed(operation: str) -> ClientError:
    code = "ProvisionedThroughputExceededException"
    return ClientError({"Error": {"Code": code, "Message": "items were left unprocessed"}}, operation)
