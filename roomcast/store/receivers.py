"""Who gets a send.

DynamoDB reads and bills whole pages of up to 1 MB. Set `page_size` when the first few items may be enough.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from roomcast import aws
from roomcast.connection import Receiver
from roomcast.rooms import INBOX, Room, inbox
from roomcast.store.dynamodb import Tables, limit, pages_side_by_side, side_by_side
from roomcast.store.items import MEMBER, MEMBER_NAME, RECEIVER, TTL, USER_INDEX, rooms_of, to_receiver
from roomcast.store.large_rooms import member_pages, partitions

SLICE_RECEIVERS = 5_000
"""About how many connections are in one slice of the connections table."""
MAX_SLICES = 200
_SAMPLE = 64  # segments, of which one shows how large the table is
_MEMBER = "#member, connectedAt, #ttl, expiresAt"
_COUNTERS = 8  # Scans side by side


class Slice(NamedTuple):
    """A part of a room, or of all connections, that one job reads.

    Attributes:
        partition: of the rooms table; None for the connections table.
        segment: which part it is, from 0; of a room, its own partition is the first.
        of: how many parts there are.
    """

    partition: str | None = None
    segment: int = 0
    of: int = 1


class Page(NamedTuple):
    """One page of a slice.

    Attributes:
        receivers: who is in it.
        cursor: where the slice goes on; None at its end.
        members: how many members it has with those that have expired; 0 for connections.
    """

    receivers: list[Receiver]
    cursor: Mapping[str, Any] | None
    members: int = 0


class Receivers:
    """Reads of both tables.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def of_room(self, room: Room, *, page_size: int | None = None) -> Iterator[Receiver]:
        """The members of a room: Queries of only that room, consistent, so that a member whose join was
        answered is among them. One Query, unless the room is large."""
        return itertools.chain.from_iterable(self.pages_of_room(room, page_size=page_size))

    def pages_of_room(self, room: Room, *, page_size: int | None = None) -> Iterator[list[Receiver]]:
        """The same, page by page, each as soon as it is read; of a large room some partitions side by side.

        Args:
            room: which.
            page_size: members that one Query reads.
        """

        def pages(partition: str) -> Iterator[dict[str, Any]]:
            return member_pages(self._tables, partition, **_of_members(), **limit(page_size))

        is_spread = False
        for page in pages(room.name):
            is_spread = is_spread or self._has_note(page["Items"])
            yield list(self._members(page["Items"], room.kind == INBOX))
        if is_spread:
            for page in pages_side_by_side([pages(partition) for partition in partitions(room)]):
                yield list(self._members(page["Items"], room.kind == INBOX))

    def of_user(
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
        return self._receivers(user_connection_ids(self._tables, user_id, page_size), expired=expired)

    def of_connection(self, connection_id: str) -> Receiver | None:
        """One connection; None where it is unknown or expired."""
        return next(self._receivers([connection_id]), None)

    def over_limit(self, user_id: str, limit: int) -> list[Receiver] | None:
        """A user's connections from the oldest on, where there are more than so many. One Query where not.

        Args:
            user_id: whose.
            limit: how many there may be.

        Returns:
            All of them in the order in which they were made; None where there are not too many.
        """
        ids = [receiver.connection_id for receiver in self.of_room(inbox(user_id))]
        if len(ids) <= limit:
            return None
        # A member may outlive its connection by a moment; nobody is closed for that one.
        found = sorted(self._receivers(ids), key=lambda r: (r.connected_at, r.connection_id))
        return found if len(found) > limit else None

    def of_everybody(self, *, page_size: int | None = None) -> Iterator[Receiver]:
        """Every connection, by a paged, consistent Scan of the connections table."""
        return itertools.chain.from_iterable(self.pages_of_everybody(page_size=page_size))

    def pages_of_everybody(self, *, page_size: int | None = None) -> Iterator[list[Receiver]]:
        """The same, page by page, each as soon as it is read."""
        return (page.receivers for page in self._scan(Slice(), None, page_size))

    def pages_of_admins(self) -> Iterator[list[Receiver]]:
        """The connections of admins: a Scan of the connections table that returns only theirs."""
        only: dict[str, Any] = {
            "FilterExpression": "userRole = :admin",
            "ExpressionAttributeValues": {":admin": {"S": "admin"}},
        }
        return (page.receivers for page in self._scan(Slice(), None, **only))

    def slices_of_room(self, room: Room) -> list[Slice]:
        """The parts of a room: one, or one for each partition of a large room."""
        note = aws.call(
            self._tables.client.query,
            TableName=self._tables.rooms,
            KeyConditionExpression="room = :room AND #member = :note",
            ExpressionAttributeNames=MEMBER_NAME,
            ExpressionAttributeValues={":room": {"S": room.name}, ":note": {"S": MEMBER}},
            ConsistentRead=True,
        )["Items"]
        spread = partitions(room) if self._has_note(note) else []
        names = (room.name, *spread)
        return [Slice(name, number, len(names)) for number, name in enumerate(names)]

    def slices_of_everybody(self) -> list[Slice]:
        """Parts of the connections table, of about `SLICE_RECEIVERS` each, by a look at a small one."""
        page = aws.call(
            self._tables.client.scan,
            TableName=self._tables.connections,
            Segment=0,
            TotalSegments=_SAMPLE,
            ProjectionExpression="connectionId",
        )
        whole = "LastEvaluatedKey" not in page
        count = math.ceil(len(page["Items"]) * _SAMPLE / SLICE_RECEIVERS) if whole else MAX_SLICES
        slices = max(1, min(count, MAX_SLICES))
        return [Slice(segment=number, of=slices) for number in range(slices)]

    def pages(self, part: Slice, cursor: Mapping[str, Any] | None = None) -> Iterator[Page]:
        """The receivers of a slice, page by page, with consistent reads.

        Args:
            part: the slice.
            cursor: of the page before, where the slice was begun already.
        """
        if part.partition is None:
            yield from self._scan(part, cursor)
            return
        # An inbox is never large: what is in one of many partitions is in another kind of room.
        of_inbox = part.partition.startswith(INBOX.prefix)
        start = {"ExclusiveStartKey": cursor} if cursor else {}
        for page in member_pages(self._tables, part.partition, **_of_members(), **start):
            items = page["Items"]
            yield Page(list(self._members(items, of_inbox)), page.get("LastEvaluatedKey"), len(items))

    def still(self, receivers: Iterable[Receiver], room: str | None) -> dict[str, Receiver]:
        """Those that would get the send now: their connection is kept, and a member of the room.

        Args:
            receivers: as they were read some time ago.
            room: the room that was sent to, if any.
        """
        before = {receiver.connection_id: receiver for receiver in receivers}
        items = self._tables.read(
            before, ProjectionExpression=f"{RECEIVER}, rooms", ExpressionAttributeNames=TTL
        )
        now = [item for item in self._tables.alive(items) if room is None or room in rooms_of(item)]
        return {item["connectionId"]["S"]: to_receiver(item) for item in now}

    def count(self) -> int:
        """How many connections there are, by parallel Scans that return no items. They are eventually
        consistent, which is half the price."""
        now = {"N": str(int(self._tables.clock()))}
        counts: list[int] = []

        def scan(segment: int) -> None:
            counts.extend(
                page["Count"]
                for page in self._tables.pages(
                    self._tables.client.scan,
                    TableName=self._tables.connections,
                    Select="COUNT",
                    FilterExpression="expiresAt > :now AND #ttl > :now",
                    ExpressionAttributeNames=TTL,
                    ExpressionAttributeValues={":now": now},
                    Segment=segment,
                    TotalSegments=_COUNTERS,
                )
            )

        failures = side_by_side(scan, range(_COUNTERS))
        if failures:
            raise failures[0]
        return sum(counts)

    def _scan(
        self,
        part: Slice,
        cursor: Mapping[str, Any] | None,
        page_size: int | None = None,
        **only: Any,
    ) -> Iterator[Page]:
        start = {"ExclusiveStartKey": cursor} if cursor else {}
        pages = self._tables.pages(
            self._tables.client.scan,
            TableName=self._tables.connections,
            ProjectionExpression=RECEIVER,
            ExpressionAttributeNames=TTL,
            ConsistentRead=True,  # a connection that was answered just before is among them
            Segment=part.segment,
            TotalSegments=part.of,
            **start,
            **limit(page_size),
            **only,
        )
        for page in pages:
            receivers = [to_receiver(item) for item in self._tables.alive(page["Items"])]
            yield Page(receivers, page.get("LastEvaluatedKey"))

    def _members(self, items: list[dict[str, Any]], of_inbox: bool) -> Iterator[Receiver]:
        for item in self._tables.alive(items):
            yield Receiver(
                item["member"]["S"].removeprefix(MEMBER),
                item["connectedAt"]["S"],
                was_open=not of_inbox,  # of an inbox from before it is open; of others by an action
                expires_at=int(item["expiresAt"]["N"]),
            )

    def _has_note(self, items: list[dict[str, Any]]) -> bool:
        """Whether the first page of a room's own partition begins with the note that the room is spread."""
        return (
            bool(items)
            and items[0]["member"]["S"] == MEMBER
            and float(items[0]["ttl"]["N"]) > self._tables.clock()
        )

    def _receivers(self, connection_ids: Iterable[str], *, expired: bool = False) -> Iterator[Receiver]:
        items = self._tables.read(connection_ids, ProjectionExpression=RECEIVER, ExpressionAttributeNames=TTL)
        # A tombstone has no `expiresAt`.
        wanted = (item for item in items if "expiresAt" in item) if expired else self._tables.alive(items)
        return map(to_receiver, wanted)


def user_connection_ids(tables: Tables, user_id: str, page_size: int | None = None) -> Iterator[str]:
    """The ids of a user's connections, from the index: eventually consistent, expired ones too."""
    pages = tables.pages(
        tables.client.query,
        TableName=tables.connections,
        IndexName=USER_INDEX,
        KeyConditionExpression="userId = :user",
        ExpressionAttributeValues={":user": {"S": user_id}},
        **limit(page_size),
    )
    for page in pages:
        yield from (item["connectionId"]["S"] for item in page["Items"])


def _of_members() -> dict[str, Any]:
    return {"ProjectionExpression": _MEMBER, "ExpressionAttributeNames": MEMBER_NAME | TTL}
