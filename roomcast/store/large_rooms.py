"""Large rooms: their members are spread over partitions, because DynamoDB writes 1,000 units a second to one
partition and reads 3,000.

A room begins in one partition, and most stay there: a send is one Query. Two things spread it: joins at a
rate that one partition may not bear, which the functions notice by themselves, and a send that finds many
members. Then a note in the room's own partition says so, and new members go to `PARTITIONS` others by a hash
of their id; the old ones stay where they are. Whoever reads the room reads the note before the members, in
the same Query.

The note ends three days after the room was last found large. New members follow it only while it will outlive
them, so no member is ever in a partition that a send does not read.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from roomcast import aws
from roomcast.rooms import Room
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import MEMBER, PARTITIONS, TTL, member_key, number, partition_name

MANY_MEMBERS = 1_000
"""From how many members in one partition on a room is spread."""
_NOTE_SECONDS = 72 * 3600
_MEMBER_SECONDS = 25 * 3600  # a member's row lives for 24 h at most
_ASKS_EVERY = 10  # joins of one room by this process: so rarely it asks whether the room is spread
_MANY_JOINS = 100  # of one room by this process
_FAST = 10.0  # s for as many: with fifty such processes, it is what one partition bears
_ROOMS = 1_000  # that this process remembers


class _Seen:
    """What this process knows of a room.

    Attributes:
        since: when it began to count joins, and
        asked: when it last asked, in monotonic seconds.
        joins: that it has counted.
        until: epoch seconds until which the room is spread.
    """

    def __init__(self, since: float, asked: float) -> None:
        self.since = since
        self.asked = asked
        self.joins = 0
        self.until = 0.0


class LargeRooms:
    """Which rooms are spread, as far as this process knows.

    A process that does not know puts a member into the room's own partition, which is right too.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._seen: dict[str, _Seen] = {}

    @staticmethod
    def may_spread(room: Room) -> bool:
        """Whether the room may become large. A user's own rooms have only that user in them."""
        return room.kind.join != "own"

    def takes(self, room: Room) -> bool:
        """Whether a new member goes to one of the room's partitions. At most one join in ten asks."""
        if not self.may_spread(room):
            return False
        now = time.monotonic()
        seen = self._seen.get(room.name)
        if seen is None:
            if len(self._seen) >= _ROOMS:
                self._seen.clear()
            seen = self._seen[room.name] = _Seen(now, now)
        if seen.until > self._tables.clock() + _MEMBER_SECONDS:
            return True
        seen.joins += 1
        if seen.joins % _ASKS_EVERY == 0 and now - seen.asked >= 1:
            seen.until, seen.asked = self._read(room), now
        if seen.joins == _MANY_JOINS:
            if now - seen.since <= _FAST:
                self.spread(room)
            seen.joins, seen.since = 0, now
        return seen.until > self._tables.clock() + _MEMBER_SECONDS

    def spread(self, room: Room) -> None:
        """Spread the members that a room gets from now on. The note is renewed after a day, not before."""
        now = self._tables.clock()
        seen = self._seen.setdefault(room.name, _Seen(0.0, 0.0))
        if seen.until > now + _NOTE_SECONDS - 25 * 3600:
            return
        note = {**member_key(room.name, MEMBER), "ttl": number(now + _NOTE_SECONDS)}
        with suppress(ConditionFailedError):  # it is spread, and was lately found large
            self._tables.write(
                self._tables.client.put_item,
                TableName=self._tables.rooms,
                Item=note,
                ConditionExpression="attribute_not_exists(room) OR #ttl < :later",
                ExpressionAttributeNames=TTL,
                ExpressionAttributeValues={":later": number(now + _NOTE_SECONDS - 24 * 3600)},
            )
        seen.until = now + _NOTE_SECONDS - 24 * 3600

    def _read(self, room: Room) -> float:
        """Until when the room is spread; 0 where it is not."""
        item: dict[str, Any] | None = aws.call(
            self._tables.client.get_item,
            TableName=self._tables.rooms,
            Key=member_key(room.name, MEMBER),
        ).get("Item")
        return float(item["ttl"]["N"]) if item else 0.0


def partitions(room: Room) -> list[str]:
    """The partitions of a room that is spread, next to its own."""
    return [partition_name(room.name, number) for number in range(PARTITIONS)]


def member_pages(tables: Tables, partition: str, **more: Any) -> Iterator[dict[str, Any]]:
    """The members in one partition, expired ones too: consistent Queries. In a room's own one the note, if
    there is
    one, comes first."""
    values = {":room": {"S": partition}, ":member": {"S": MEMBER}}
    return tables.pages(
        tables.client.query,
        TableName=tables.rooms,
        KeyConditionExpression="room = :room AND begins_with(#member, :member)",
        ConsistentRead=True,
        **{**more, "ExpressionAttributeValues": values | more.get("ExpressionAttributeValues", {})},
    )
