"""The only file that knows DynamoDB: who is connected, who is a member of which room, who has a grant.

Two tables. *Connections*: one item a connection, hash `connectionId`, with the index `UserIdIndex`
(hash `userId`, keys only). *Rooms*: hash `room`, range `member`, where `connection#{connectionId}` is a
member and `user#{userId}` a grant. Beside the rooms, whose names hold no `#`, the rooms table keeps
`user#{userId}` / `revoked` and `ticket#{hash}` / `ticket`: they too are read by their whole key alone.

DynamoDB deletes expired items up to days late, so every read here leaves out what is past its `ttl` or
whose token is past its `expiresAt` (`_alive`: here and not as a FilterExpression, which would have to say it
again, costs the same read units, and saves 60 bytes of an item's answer).

The races, each with its rule:

- *Join against disconnect.* A join is one transaction that needs the connection's item to be there, and the
  disconnect deletes that item first and takes the list of rooms from what it deleted. Whichever commits
  first, no member is left behind.
- *Join against revoke.* The same transaction needs the grant; a revoke deletes the grant first and then
  looks for members with a consistent read. Whichever commits first, no member is left.
- *Connect against the revocation of a user.* The connect is one transaction that needs the user not to be
  revoked since the token was issued.
- *Join against `auth:refresh`.* The join needs the `expiresAt` that it gives the member to be the
  connection's still, and is done again with the new one if it is not.
- *`$disconnect` before `$connect` has written.* The disconnect leaves a tombstone for a minute, on which the
  connect's conditional write fails.
- *A 410 that means "not open yet".* `Receiver.young` tells; such a connection is not pruned.
- *Prune against a later connection.* A prune is conditional on the `connectedAt` that the sender has read.
"""

import itertools
import json
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from roomcast.connection import Identity
from roomcast.envelope import timestamp
from roomcast.names import Role, Room
from roomcast.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONNECTION_TTL_SECONDS = 24 * 3600
"""As LandingHub: far over the two hours that API Gateway keeps a connection open."""
YOUNG_SECONDS = 5.0
"""`$connect` writes the item as its last act, so a connection is open well within this time of it."""
TICKET_SECONDS = 30
_TOMBSTONE_SECONDS = 60
_USER_INDEX = "UserIdIndex"
_MEMBER = "connection#"
_USER = _GRANT = "user#"
_CONFLICTS = {"TransactionConflictException", "TransactionConflict"}
_BATCH_GET = 100  # items in a BatchGetItem (DynamoDB's limit)
_BATCH_WRITE = 25  # items in a BatchWriteItem (DynamoDB's limit)
_ATTEMPTS = 5  # for transactions that met another one on the same item, and unprocessed batch items

_TTL = {"#ttl": "ttl"}  # names that DynamoDB reserves, and how they are written in expressions
_MEMBER_NAME = {"#member": "member"}
_RECEIVER = "connectionId, connectedAt, tat, #ttl, expiresAt"
_CONNECTION = ["connectionId", "userId", "userRole", "userName", "rooms", "connectedAt", "#ttl", "expiresAt"]


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
class Rate:
    """How many actions a connection may do: a generic cell rate algorithm (GCRA).

    Attributes:
        per_second: the rate that may go on for ever.
        burst: how many may come at once.
        debt: how many refused actions, beyond the burst, close the connection.
    """

    per_second: float = 20
    burst: int = 40
    debt: int = 80

    @property
    def interval(self) -> float:
        """Milliseconds that one action costs."""
        return 1000 / self.per_second


@dataclass(frozen=True, slots=True)
class Admission:
    """What the rate and the token say to one action.

    Attributes:
        connection: who acts.
        verdict: `ok`, or why the action is refused; with `expired` and `flooding` the connection is to be
            closed.
        retry_after: seconds until an action would be let through again.
    """

    connection: Connection
    verdict: Literal["ok", "rate_limited", "flooding", "expired"]
    retry_after: float = 0


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
        # A user agent of our own: building the usual one anew is an eighth of a call's CPU.
        config = Config(user_agent="roomcast")
        client: Any = (session or botocore.session.get_session()).create_client("dynamodb", config=config)
        for operation in ("Query", "Scan"):
            client.meta.events.register(f"before-parse.dynamodb.{operation}", _take_items)
        return cls(client, settings.connections_table, settings.rooms_table)

    # Connections

    def connect(
        self, connection_id: str, identity: Identity
    ) -> Literal["connected", "disconnected", "revoked"]:
        """Keep a new connection.

        Returns:
            `disconnected` where its `$disconnect` has come already, `revoked` where the user was revoked
            after the token was issued: nothing is kept.
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
        put = {"TableName": self._connections, "Item": item, **_new(item)}
        try:
            self._transact({"Put": put}, self._unless_revoked(identity))
        except _ConditionFailedError as error:
            return "revoked" if error.index else "disconnected"
        return "connected"

    def disconnect(self, connection_id: str) -> None:
        """Forget a connection and its memberships. Doing it twice is the same as once."""
        deleted = self._delete_connection(connection_id)
        if deleted:
            self._forget_members(connection_id, _rooms_of(deleted))
        else:
            ttl = _number(self._clock() + _TOMBSTONE_SECONDS)
            tombstone = {**_connection_key(connection_id), "connectedAt": {"S": ""}, "ttl": ttl}
            with suppress(_ConditionFailedError):  # it has connected meanwhile, and will be told again
                self._write(
                    self._client.put_item, TableName=self._connections, Item=tombstone, **_new(tombstone)
                )

    def prune(self, receiver: Receiver, rooms: Iterable[str] = ()) -> None:
        """Forget a connection that the gateway says is gone.

        Args:
            receiver: as it was read; nothing is done if the item has another `connectedAt` by now.
            rooms: rooms that it was found in, beside those that its item names.
        """
        try:
            deleted = self._delete_connection(
                receiver.connection_id,
                ConditionExpression="attribute_not_exists(connectionId) OR connectedAt = :connectedAt",
                ExpressionAttributeValues={":connectedAt": {"S": receiver.connected_at}},
            )
        except _ConditionFailedError:
            return
        self._forget_members(receiver.connection_id, {*rooms, *_rooms_of(deleted)})

    def admit(self, connection_id: str, rate: Rate) -> Admission | None:
        """Count one action of a connection and read who it is.

        One call for an action that comes after a pause of one interval or more, two within a burst: the usual
        action is the first kind.

        Args:
            connection_id: who acts.
            rate: how many actions it may do.

        Returns:
            None where the connection is unknown.
        """
        # `tat`, the theoretical arrival time of GCRA: milliseconds up to which the actions so far have used
        # the rate up. It moves on with refused actions too, so that it tells a flood from a slip.
        while True:
            now = self._clock() * 1000
            try:
                idle = "attribute_exists(userId) AND (attribute_not_exists(tat) OR tat < :now)"
                item = self._move_tat(connection_id, "SET tat = :tat", idle, now, now + rate.interval)
                break
            except _ConditionFailedError as error:
                if "userId" not in error.item:
                    return None
            with suppress(_ConditionFailedError):  # it has become idle in between: again from the start
                item = self._move_tat(connection_id, "ADD tat :tat", "tat >= :now", now, rate.interval)
                break
        connection = _connection(item)
        if connection.ttl * 1000 <= now:
            return None
        if connection.expires_at * 1000 <= now:
            return Admission(connection, "expired")
        over = float(item["tat"]["N"]) - now - rate.burst * rate.interval
        if over <= 0:
            return Admission(connection, "ok")
        verdict: Literal["flooding", "rate_limited"] = (
            "flooding" if over > rate.debt * rate.interval else "rate_limited"
        )
        return Admission(connection, verdict, math.ceil(over) / 1000)

    def extend(self, connection: Connection, identity: Identity) -> bool:
        """Let a connection and its memberships live until a newer token's end.

        Returns:
            False where the connection is gone, or its user was revoked after the token was issued.
        """
        expires_at = {":expiresAt": _number(identity.expires_at)}
        update: Any = {
            "TableName": self._connections,
            "Key": _connection_key(connection.connection_id),
            "UpdateExpression": "SET expiresAt = :expiresAt",
            "ConditionExpression": "connectedAt = :connectedAt",
            "ExpressionAttributeValues": {":connectedAt": {"S": connection.connected_at}, **expires_at},
        }
        try:
            self._transact({"Update": update}, self._unless_revoked(identity))
        except _ConditionFailedError:
            return False
        # Read after the write: a join that is not among these has seen the new `expiresAt`, or sees it fail.
        for room in (self.connection(connection.connection_id) or connection).rooms:
            with suppress(_ConditionFailedError):  # it has left that room meanwhile
                self._write(
                    self._client.update_item,
                    TableName=self._rooms,
                    Key=_member_key(room, _MEMBER + connection.connection_id),
                    UpdateExpression="SET expiresAt = :expiresAt",
                    ConditionExpression="attribute_exists(room)",
                    ExpressionAttributeValues=expires_at,
                )
        return True

    def connection(self, connection_id: str) -> Connection | None:
        """Read one connection; None where it is unknown or expired."""
        item = self._client.get_item(
            TableName=self._connections, Key=_connection_key(connection_id), ConsistentRead=True
        ).get("Item")
        return next(map(_connection, self._alive([item] if item else [])), None)

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
        expires_at = _number(connection.expires_at)
        update: Any = {
            "TableName": self._connections,
            "Key": _connection_key(connection.connection_id),
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
            **_member_key(room.name, _MEMBER + connection.connection_id),
            "userId": {"S": connection.user_id},
            "connectedAt": {"S": connection.connected_at},
            "ttl": _number(connection.ttl),
            "expiresAt": expires_at,
        }
        writes: list[Any] = [{"Update": update}, {"Put": {"TableName": self._rooms, "Item": member}}]
        if needs_grant:
            grant = {
                "TableName": self._rooms,
                "Key": _member_key(room.name, _GRANT + connection.user_id),
                "ConditionExpression": "attribute_exists(room)",
            }
            writes.append({"ConditionCheck": grant})
        try:
            self._transact(*writes)
        except _ConditionFailedError as error:
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
        item = {**_member_key(room.name, _GRANT + user_id), "grantedAt": {"S": timestamp(self._clock())}}
        self._client.put_item(TableName=self._rooms, Item=item)

    def revoke(self, room: Room, user_id: str) -> None:
        """Take the right back, and end the memberships that the user's connections have in the room."""
        self._client.delete_item(TableName=self._rooms, Key=_member_key(room.name, _GRANT + user_id))
        for connection_id in self._user_members(room, user_id):
            self._remove_member(connection_id, room.name)

    # Users

    def revoke_user(self, user_id: str) -> None:
        """Keep a user out until a token that is issued in a later second than this."""
        item = {**_member_key(_USER + user_id, "revoked"), "notBefore": _number(self._clock())}
        self._client.put_item(TableName=self._rooms, Item=item)

    def put_ticket(self, ticket: str, identity: Identity) -> None:
        """Keep a one-time ticket for 30 seconds. Only its hash is kept."""
        who = {field: getattr(identity, field) for field in Identity.__slots__}
        item: dict[str, Any] = {
            **_ticket_key(ticket),
            "identity": {"S": json.dumps(who)},
            "ttl": _number(self._clock() + TICKET_SECONDS),
        }
        self._client.put_item(TableName=self._rooms, Item=item)

    def take_ticket(self, ticket: str) -> Identity | None:
        """Whose ticket this is; None where it is unknown, used or too old. It cannot be taken twice."""
        try:
            answer = self._write(
                self._client.delete_item,
                TableName=self._rooms,
                Key=_ticket_key(ticket),
                ConditionExpression="#ttl > :now",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":now": _number(self._clock())},
                ReturnValues="ALL_OLD",
            )
        except _ConditionFailedError:
            return None
        return Identity(**json.loads(answer["Attributes"]["identity"]["S"]))

    def oldest_connections(self, user_id: str, keep: int) -> list[Receiver]:
        """A user's connections but the newest `keep`, oldest first. One Query where there are no more."""
        ids = list(self._user_connection_ids(user_id))
        if len(ids) <= keep:
            return []
        receivers = sorted(self._receivers(ids), key=lambda receiver: receiver.connected_at)
        return receivers[: max(len(receivers) - keep, 0)]

    # Connections for people to look at

    def connections(self) -> Iterator[Connection]:
        """Every connection, by a paged Scan of the connections table."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._connections,
            # What `Connection` has: the price is the same, but reading the answer takes time too.
            ProjectionExpression=", ".join(_CONNECTION),
            ExpressionAttributeNames=_TTL,
        )
        for page in pages:
            yield from map(_connection, self._alive(page["Items"]))

    def user_connections(self, user_id: str) -> Iterator[Connection]:
        """A user's connections: a Query and a BatchGetItem."""
        return map(_connection, self._alive(self._items(self._user_connection_ids(user_id))))

    def room_connections(self, room: Room) -> Iterator[Connection]:
        """The members of a room: a Query and a BatchGetItem."""
        ids = (receiver.connection_id for receiver in self.room_receivers(room))
        return map(_connection, self._alive(self._items(ids)))

    def size(self) -> tuple[int, int]:
        """About how many connections there are, and their bytes: DynamoDB counts every six hours."""
        table = self._client.describe_table(TableName=self._connections)["Table"]
        return table["ItemCount"], table["TableSizeBytes"]

    # Receivers of a send

    # A page is at most 1 MB, and is read, and paid for, whole: `page_size` is for who may need a few alone.

    def room_receivers(self, room: Room, *, page_size: int | None = None) -> Iterator[Receiver]:
        """The members of a room: Queries of that room alone, consistent, so that a member whose join was
        answered is among them."""
        members = self._query_members(
            room,
            ProjectionExpression="#member, connectedAt, #ttl, expiresAt",
            ExpressionAttributeNames=_MEMBER_NAME | _TTL,
            PaginationConfig=_pages(page_size),
        )
        for item in self._alive(members):
            connection_id = item["member"]["S"].removeprefix(_MEMBER)
            yield Receiver(connection_id, item["connectedAt"]["S"], was_open=True)

    def user_receivers(
        self, user_id: str, *, expired: bool = False, page_size: int | None = None
    ) -> Iterator[Receiver]:
        """A user's connections: a Query and a BatchGetItem.

        Args:
            user_id: whose.
            expired: also those whose token has ended: they get no event, but may be open still.
            page_size: items that one Query reads.

        The index is keys only and eventually consistent: it may lag a connect by some milliseconds. The items
        are read behind it, since an index without `expiresAt` cannot tell an expired token.
        """
        return self._receivers(self._user_connection_ids(user_id, page_size), expired=expired)

    def receiver(self, connection_id: str) -> Receiver | None:
        """One connection; None where it is unknown or expired."""
        return next(self._receivers([connection_id]), None)

    def all_receivers(self, *, page_size: int | None = None) -> Iterator[Receiver]:
        """Every connection, by a paged Scan of the connections table."""
        for page in self._scan(PaginationConfig=_pages(page_size)):
            yield from page

    def all_receiver_pages(self, segments: int) -> Iterator[list[Receiver]]:
        """Every connection, by parallel Scans of so many segments of the connections table.

        A page is at most 1 MB of items. Memory is bounded: a Scan waits while two pages of it are unread.
        """
        pages: queue.Queue[list[Receiver] | Exception | None] = queue.Queue(2 * segments)
        stopped = threading.Event()

        def scan(segment: int) -> None:
            end: Exception | None = None
            try:
                for page in self._scan(Segment=segment, TotalSegments=segments):
                    pages.put(page)
                    if stopped.is_set():
                        return
            except Exception as error:  # noqa: BLE001  raised again where the pages are read
                end = error
            pages.put(end)

        threads = [
            threading.Thread(target=scan, args=(segment,), name=f"scan-{segment}", daemon=True)
            for segment in range(segments)
        ]
        for thread in threads:
            thread.start()
        try:
            running = segments
            while running:
                page = pages.get()
                if isinstance(page, Exception):
                    raise page
                if page is None:
                    running -= 1
                else:
                    yield page
        finally:
            stopped.set()
            while any(thread.is_alive() for thread in threads):
                with suppress(queue.Empty):  # what is unread may block a thread
                    pages.get(timeout=0.01)

    # Inside

    def _scan(self, **more: Any) -> Iterator[list[Receiver]]:
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._connections,
            ProjectionExpression=_RECEIVER,
            ExpressionAttributeNames=_TTL,
            **more,
        )
        for page in pages:
            yield [_receiver(item) for item in self._alive(page["Items"])]

    def _move_tat(
        self, connection_id: str, update: str, condition: str, now: float, tat: float
    ) -> dict[str, Any]:
        answer = self._write(
            self._client.update_item,
            TableName=self._connections,
            Key=_connection_key(connection_id),
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeValues={":now": _number(now), ":tat": _number(tat)},
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        item: dict[str, Any] = answer["Attributes"]
        return item

    def _delete_connection(self, connection_id: str, **condition: Any) -> dict[str, Any]:
        """Delete a connection's item and return it, empty where there was none."""
        answer = self._write(
            self._client.delete_item,
            TableName=self._connections,
            Key=_connection_key(connection_id),
            ReturnValues="ALL_OLD",
            **condition,
        )
        deleted: dict[str, Any] = answer.get("Attributes", {})
        return deleted

    def _unless_revoked(self, identity: Identity) -> dict[str, Any]:
        """A condition for a transaction."""
        check = {
            "TableName": self._rooms,
            "Key": _member_key(_USER + identity.user_id, "revoked"),
            "ConditionExpression": "attribute_not_exists(notBefore) OR notBefore < :issuedAt",
            "ExpressionAttributeValues": {":issuedAt": _number(identity.issued_at)},
        }
        return {"ConditionCheck": check}

    def _user_connection_ids(self, user_id: str, page_size: int | None = None) -> Iterator[str]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._connections,
            IndexName=_USER_INDEX,
            KeyConditionExpression="userId = :user",
            ExpressionAttributeValues={":user": {"S": user_id}},
            PaginationConfig=_pages(page_size),
        )
        for page in pages:
            yield from (item["connectionId"]["S"] for item in page["Items"])

    def _receivers(self, connection_ids: Iterable[str], *, expired: bool = False) -> Iterator[Receiver]:
        items = self._items(connection_ids, ProjectionExpression=_RECEIVER, ExpressionAttributeNames=_TTL)
        return map(_receiver, items if expired else self._alive(items))

    def _items(self, connection_ids: Iterable[str], **projection: Any) -> Iterator[Any]:
        ids = iter(connection_ids)
        while keys := [_connection_key(connection_id) for connection_id in itertools.islice(ids, _BATCH_GET)]:
            wanted: Any = {self._connections: {"Keys": keys, "ConsistentRead": True, **projection}}
            for attempt in range(_ATTEMPTS):
                answer = self._client.batch_get_item(RequestItems=wanted)
                yield from answer["Responses"].get(self._connections, [])
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
                _back_off(attempt)
            else:
                raise _unprocessed("BatchGetItem")

    def _user_members(self, room: Room, user_id: str) -> Iterator[str]:
        """The user's connections that are members of the room."""
        members = self._query_members(
            room,
            {":user": {"S": user_id}},
            FilterExpression="userId = :user",
            ProjectionExpression="#member",
            ExpressionAttributeNames=_MEMBER_NAME,
        )
        return (item["member"]["S"].removeprefix(_MEMBER) for item in members)

    def _query_members(
        self, room: Room, values: Mapping[str, Any] | None = None, **more: Any
    ) -> Iterator[dict[str, Any]]:
        """The members of a room, expired ones too."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._rooms,
            KeyConditionExpression="room = :room AND begins_with(#member, :member)",
            ExpressionAttributeValues={
                ":room": {"S": room.name},
                ":member": {"S": _MEMBER},
                **(values or {}),
            },
            ConsistentRead=True,
            **more,
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
        try:
            self._transact({"Delete": delete}, {"Update": update})
        except _ConditionFailedError:
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

    def _transact(self, *writes: dict[str, Any]) -> None:
        """Write all or nothing.

        Raises:
            _ConditionFailedError: nothing was written.
        """
        self._write(self._client.transact_write_items, TransactItems=writes)

    def _write(self, write: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        """Do one write, again where a transaction was on the same item.

        Raises:
            _ConditionFailedError: its condition did not hold.
        """
        for attempt in itertools.count():
            try:
                answer: dict[str, Any] = write(**arguments)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                failed: Any = error.response
                if code == "ConditionalCheckFailedException":
                    raise _ConditionFailedError(0, failed.get("Item", {})) from None
                reasons = failed.get("CancellationReasons", ())
                for index, reason in enumerate(reasons):
                    if reason["Code"] == "ConditionalCheckFailed":
                        raise _ConditionFailedError(index, reason.get("Item", {})) from None
                conflict = {code, *(reason["Code"] for reason in reasons)} & _CONFLICTS
                if not conflict or attempt + 1 == _ATTEMPTS:
                    raise
                _back_off(attempt)
            else:
                return answer
        raise AssertionError("unreachable")

    def _alive(self, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Those of the items that are neither expired nor tombstones."""
        now = self._clock()
        for item in items:
            ttl, expires_at = item.get("ttl"), item.get("expiresAt")
            if ttl and expires_at and float(ttl["N"]) > now and float(expires_at["N"]) > now:
                yield item


class _ConditionFailedError(Exception):
    """A condition did not hold.

    Attributes:
        index: which of a transaction's writes it belongs to, the first where several failed; else 0.
        item: the item as it was, where that was asked for.
    """

    def __init__(self, index: int, item: Mapping[str, Any]) -> None:
        super().__init__(f"the condition of write {index} failed")
        self.index = index
        self.item = item


def _take_items(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Take a page's items as JSON has them, which for strings and numbers is how botocore would give them.

    A million receivers are a million items: botocore's parser takes 15 µs for each, this 3 µs.
    """
    if response_dict["status_code"] == 200:
        page = json.loads(response_dict["body"])
        customized_response_dict["Items"] = page.pop("Items", [])
        response_dict["body"] = json.dumps(page).encode()


def _receiver(item: Mapping[str, Any]) -> Receiver:
    return Receiver(item["connectionId"]["S"], item["connectedAt"]["S"], was_open="tat" in item)


def _new(item: Mapping[str, Any]) -> dict[str, Any]:
    """The condition that a connection is new, or the same: botocore repeats a put whose answer was lost."""
    return {
        "ConditionExpression": "attribute_not_exists(connectionId) OR connectedAt = :connectedAt",
        "ExpressionAttributeValues": {":connectedAt": item["connectedAt"]},
    }


def _ticket_key(ticket: str) -> dict[str, Any]:
    return _member_key("ticket#" + sha256(ticket.encode(errors="replace")).hexdigest(), "ticket")


def _connection(item: Mapping[str, Any]) -> Connection:
    return Connection(
        connection_id=item["connectionId"]["S"],
        user_id=item["userId"]["S"],
        role="admin" if item["userRole"]["S"] == "admin" else "user",
        connected_at=item["connectedAt"]["S"],
        ttl=int(item["ttl"]["N"]),
        expires_at=int(item["expiresAt"]["N"]),
        rooms=frozenset(_rooms_of(item)),
        name=item.get("userName", {}).get("S", ""),
    )


def _rooms_of(item: Mapping[str, Any]) -> list[str]:
    rooms: list[str] = item.get("rooms", {}).get("SS", [])
    return rooms


def _connection_key(connection_id: str) -> dict[str, Any]:
    return {"connectionId": {"S": connection_id}}


def _member_key(room: str, member: str) -> dict[str, Any]:
    return {"room": {"S": room}, "member": {"S": member}}


def _pages(size: int | None) -> Any:
    return {} if size is None else {"PageSize": size}


def _number(value: float) -> dict[str, Any]:
    return {"N": str(int(value))}


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311  full jitter needs no secrecy


def _unprocessed(operation: str) -> ClientError:
    code = "ProvisionedThroughputExceededException"
    return ClientError({"Error": {"Code": code, "Message": "items were left unprocessed"}}, operation)
