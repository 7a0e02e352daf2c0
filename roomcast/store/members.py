"""Members of rooms and the grants to join them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, Literal

from roomcast import aws
from roomcast.connection import Connection
from roomcast.envelope import timestamp
from roomcast.errors import AwsError, AwsRefusedError
from roomcast.rooms import Room
from roomcast.store.dynamodb import ConditionFailedError, Tables, left_over, side_by_side
from roomcast.store.items import (
    MEMBER,
    MEMBER_NAME,
    TTL,
    USER,
    Grant,
    connection_key,
    grant_key,
    member_key,
    membership_key,
    number,
    rooms_of,
    to_connection,
    to_grant,
)
from roomcast.store.large_rooms import MANY_MEMBERS, LargeRooms, member_pages, partitions
from roomcast.store.replay import Position
from roomcast.store.revocations import unless_revoked

# API Gateway runs actions of one connection at the same time. The item notes the last join or leave, and one
# for the same room that was asked for before it changes nothing.
_NOTE = " SET lastRoom = :room, lastAsked = :asked"
_IN_ORDER = " AND (attribute_not_exists(lastAsked) OR lastRoom <> :room OR lastAsked <= :asked)"
_TOGETHER = 49  # rooms: a transaction has 100 writes, two of the connection and two of a room with a grant
_SPREADS_AFTER = 1.0  # s of throttling by a room's only partition


class Members:
    """The rooms table, and the list of rooms in each connection's item.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._large = LargeRooms(tables)

    def join(self, connection: Connection, room: Room, *, needs_grant: bool) -> bool | Literal["superseded"]:
        """Make a connection a member of a room. Joining twice is the same as once.

        Args:
            connection: as read.
            room: the room.
            needs_grant: whether the connection's user must have a grant for it.

        Returns:
            `superseded` where the connection has asked to leave after this. False where the connection is
            gone, its user was revoked, or the grant is missing. Then nothing is changed.
        """
        is_member = room.name in connection.rooms
        spread = room.name in connection.spread if is_member else self._large.takes(room)
        may_spread = not (is_member or spread) and self._large.may_spread(room)
        with aws.within(aws.seconds_left()):
            while True:
                try:
                    with aws.within(_SPREADS_AFTER) if may_spread else nullcontext():
                        self._tables.transact(*self._join(connection, [(room, needs_grant, spread)]))
                except ConditionFailedError as error:
                    item = error.item
                    if not error.index and _is_superseded(item, room.name, connection.asked):
                        return "superseded"
                    if error.index or item.get("connectedAt", {}).get("S") != connection.connected_at:
                        return False
                    # It was refreshed, or is a member at the other place.
                    connection = to_connection(item)._replace(asked=connection.asked)
                    if room.name in connection.rooms:
                        spread, may_spread = room.name in connection.spread, False
                except AwsError as error:
                    if not may_spread or (not aws.is_retryable(error)):
                        raise
                    may_spread = False
                    if isinstance(error, AwsRefusedError):  # the partition bears no more
                        self._large.spread(room)
                        spread = True
                else:
                    return True

    def join_all(self, connection: Connection, rooms: Mapping[Room, bool]) -> dict[str, bool]:
        """Make a connection a member of several rooms, with one transaction for up to 49 of them.

        Args:
            connection: as read.
            rooms: each with whether it needs a grant.

        Returns:
            By the rooms' names: True where it is a member now, False where the grant is missing. What is not
            named is not joined: `join` does that, or says why not.
        """
        settled: dict[str, bool] = {}
        todo = []
        for room, needs_grant in rooms.items():
            is_member = room.name in connection.rooms
            spread = room.name in connection.spread if is_member else self._large.takes(room)
            todo.append((room, needs_grant, spread))
        while todo:
            together = todo[:_TOGETHER]
            writes = self._join(connection, together)
            try:
                with aws.within(min(_SPREADS_AFTER, aws.seconds_left())):
                    self._tables.transact(*writes)
            except ConditionFailedError as error:
                failed = [writes[index].get("ConditionCheck", {}).get("Key") for index in error.indexes]
                refused = [one for one in together if grant_key(one[0].name, connection.user_id) in failed]
                if len(refused) < len(failed):  # the connection is not as it was read
                    break
                settled |= {room.name: False for room, _, __ in refused}
                todo = [one for one in todo if one not in refused]
            except AwsError:
                break
            else:
                settled |= {room.name: True for room, _, __ in together}
                del todo[:_TOGETHER]
        return settled

    def leave(self, connection_id: str, room: Room, asked: str = "") -> bool:
        """End a membership. Leaving a room that one is not in does nothing, and so does a leave that comes
        after a join that was asked for later.

        Args:
            connection_id: whose.
            room: which.
            asked: as in `Connection`.

        Returns:
            Whether it has ended a membership; always False where nobody wants to know it (`Tables.ended`).
        """
        return self._remove_member(connection_id, room.name, asked)

    def grant(self, room: Room, user_id: str, begins: Position | None = None) -> None:
        """Give a user the right to join a room. A grant that is there stays as it is.

        Args:
            room: the room.
            user_id: whose.
            begins: where the room's stream is, if it keeps a history: nothing up to it is ever shown to the
                user.
        """
        item = {**grant_key(room.name, user_id), "grantedAt": {"S": timestamp(self._tables.clock())}}
        if begins is not None:
            item |= {"epoch": {"S": begins.epoch}, "headSeq": number(begins.seq)}
        with suppress(ConditionFailedError):
            self._tables.write(
                self._tables.client.put_item,
                TableName=self._tables.rooms,
                Item=item,
                ConditionExpression="attribute_not_exists(room)",
            )

    def allowed(self, user_id: str, issued_at: int, rooms: Iterable[Room]) -> tuple[bool, dict[str, Grant]]:
        """Read what a user may see now, consistently: after its messages were read and before they are shown.

        Args:
            user_id: whose.
            issued_at: when the user's token was issued, in epoch seconds.
            rooms: those that need a grant, at most 99.

        Returns:
            Whether the user is not revoked, and the grants that there are, by the rooms' names.
        """
        revoked = member_key(USER + user_id, "revoked")
        grants = {grant_key(room.name, user_id)["room"]["S"]: room.name for room in rooms}
        keys = [revoked, *(member_key(hash_, "grant") for hash_ in grants)]
        wanted: Any = {self._tables.rooms: {"Keys": keys, "ConsistentRead": True}}
        kept, found = True, {}
        for _ in aws.attempts():
            answer = aws.call(self._tables.client.batch_get_item, RequestItems=wanted)
            for item in answer["Responses"].get(self._tables.rooms, []):
                if "notBefore" in item:
                    kept = int(item["notBefore"]["N"]) < issued_at
                else:
                    found[grants[item["room"]["S"]]] = to_grant(item)
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                return kept, found
        raise left_over("BatchGetItem")

    def revoke(self, room: Room, user_id: str) -> None:
        """Take the right back, and end the memberships that the user's connections have in the room.

        Reads the whole room, consistently: the index of users would be shorter, but shows a connection late.
        """
        key = grant_key(room.name, user_id)
        self._tables.write(self._tables.client.delete_item, TableName=self._tables.rooms, Key=key)
        found: dict[str, list[str]] = {}

        def look(partition: str) -> None:
            found[partition] = []
            for page in member_pages(
                self._tables,
                partition,
                FilterExpression="userId = :user OR attribute_not_exists(userId)",  # the note, too
                ExpressionAttributeValues={":user": {"S": user_id}},
                ProjectionExpression="#member, #ttl",
                ExpressionAttributeNames=MEMBER_NAME | TTL,
            ):
                found[partition] += [item["member"]["S"].removeprefix(MEMBER) for item in page["Items"]]

        look(room.name)
        failures: list[Exception] = []
        if "" in found[room.name]:
            failures = side_by_side(look, partitions(room))
        ids = dict.fromkeys(i for of_partition in found.values() for i in of_partition if i)

        def end(connection_id: str) -> None:
            if self._remove_member(connection_id, room.name) and self._tables.ended is not None:
                self._tables.ended(user_id, [room.name], connection_id, closed=False)

        failures += side_by_side(end, ids)
        if failures:
            raise failures[0]

    def note_size(self, room: Room, members: int) -> None:
        """Take note of how many members a room's own partition has: it is spread if they are many."""
        if members >= MANY_MEMBERS and self._large.may_spread(room):
            self._large.spread(room)

    def _join(self, connection: Connection, rooms: Sequence[tuple[Room, bool, bool]]) -> list[dict[str, Any]]:
        """The writes of a join: the connection's item first, then the revocation, then those of each room.

        Args:
            connection: as read.
            rooms: each with whether it needs a grant, and whether the member goes to a partition.
        """
        asked, expires_at = connection.asked, number(connection.expires_at)
        values: dict[str, Any] = {
            ":rooms": {"SS": [room.name for room, _, __ in rooms]},
            ":connectedAt": {"S": connection.connected_at},
            ":expiresAt": expires_at,
        }
        update, condition = "ADD rooms :rooms", "connectedAt = :connectedAt AND expiresAt = :expiresAt"
        if in_partition := [room.name for room, _, spread in rooms if spread]:
            update += ", spread :spread"
            values[":spread"] = {"SS": in_partition}
        for place, (room, _, spread) in enumerate(rooms):
            values[f":{place}"] = {"S": room.name}
            # A member is in one place only, wherever an earlier join has put it.
            there = f"contains(spread, :{place})"
            condition += f" AND (NOT contains(rooms, :{place}) OR {there})" if spread else f" AND NOT {there}"
        if asked:
            update += _NOTE
            values |= {":asked": {"S": asked}, ":room": {"S": rooms[-1][0].name}}
            others = ", ".join(f":{place}" for place in range(len(rooms)))
            condition += (
                f" AND (attribute_not_exists(lastAsked) OR lastAsked <= :asked OR NOT lastRoom IN ({others}))"
            )
        writes: list[dict[str, Any]] = [
            {
                "Update": {
                    "TableName": self._tables.connections,
                    "Key": connection_key(connection.connection_id),
                    "UpdateExpression": update,
                    "ConditionExpression": condition,
                    "ExpressionAttributeValues": values,
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
            },
            unless_revoked(self._tables, connection.user_id, connection.issued_at),
        ]
        for room, needs_grant, spread in rooms:
            member: Any = {
                **membership_key(room.name, connection.connection_id, spread=spread),
                "userId": {"S": connection.user_id},
                "connectedAt": {"S": connection.connected_at},
                "ttl": number(connection.ttl),
                "expiresAt": expires_at,
            }
            writes.append({"Put": {"TableName": self._tables.rooms, "Item": member}})
            if needs_grant:
                grant = {
                    "TableName": self._tables.rooms,
                    "Key": grant_key(room.name, connection.user_id),
                    "ConditionExpression": "attribute_exists(room)",
                }
                writes.append({"ConditionCheck": grant})
        return writes

    def _remove_member(self, connection_id: str, room: str, asked: str = "") -> bool:
        """End a membership, in one transaction: between two writes a join could come, and leave a member that
        no item names.

        Returns:
            Whether it was one, which is looked at only where somebody wants to know.
        """
        spread = False
        wanted = self._tables.ended is not None
        named = wanted  # in the connection's item, until the contrary is seen
        while True:
            key = membership_key(room, connection_id, spread=spread)
            delete: Any = {"TableName": self._tables.rooms, "Key": key}
            update: Any = {
                "TableName": self._tables.connections,
                "Key": connection_key(connection_id),
                "UpdateExpression": "DELETE rooms :rooms, spread :rooms" + _NOTE * bool(asked),
                # An update must not create the item.
                "ConditionExpression": "attribute_exists(userId) AND "
                + "NOT " * (not spread)
                + "contains(spread, :room)"
                + f" AND {'' if named else 'NOT '}contains(rooms, :room)" * wanted
                + _IN_ORDER * bool(asked),
                "ExpressionAttributeValues": {
                    ":room": {"S": room},
                    ":rooms": {"SS": [room]},
                    **({":asked": {"S": asked}} if asked else {}),
                },
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
            try:
                self._tables.transact({"Delete": delete}, {"Update": update})
            except ConditionFailedError as error:
                if _is_superseded(error.item, room, asked):
                    return False
                if "userId" in error.item:
                    spread = room in rooms_of(error.item, "spread")
                    named = wanted and room in rooms_of(error.item)
                    continue
                for place in (False, True):  # the connection has ended
                    key = membership_key(room, connection_id, spread=place)
                    self._tables.write(self._tables.client.delete_item, TableName=self._tables.rooms, Key=key)
                return False
            return named


def _is_superseded(item: Mapping[str, Any], room: str, asked: str) -> bool:
    """Whether the connection has asked for something later about that room."""
    last = item.get("lastAsked", {}).get("S", "")
    return bool(asked) and last > asked and bool(item["lastRoom"]["S"] == room)
