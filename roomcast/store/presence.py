"""Who is present in a room: users, not connections, in a state that changes one version at a time.

In the rooms table, under a hash of its own (`presence#{room}`): a *head* (`head`: `version`, and of a crowded
room `people`), and one row for each user that is or was just there (`user#{userId}`).

Whether a user is present follows from the user's connections, as they are kept; a row only says what the room
has been told. Whoever joins or leaves changes the row's `changes`, and asks for a *look*. The look reads the
row, then the connections, and then makes what was told the same as what is, on the condition that `changes`
is as it was: so a join between the two is never overlooked, and a look that comes late, twice or for nothing
does no harm. The row and the head's version change in one transaction. A leave is told `GRACE` seconds after
the last connection has gone, and so a reconnect changes nothing.

A connection lives for two hours at most. A row whose last join is longer ago is not read as present, and
whoever reads it asks for a look: that is what becomes of a lost `$disconnect`.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from roomcast import aws
from roomcast.envelope import new_id, timestamp
from roomcast.rooms import Room, inbox
from roomcast.store.dynamodb import ConditionFailedError, Tables, side_by_side
from roomcast.store.items import MEMBER, MEMBER_NAME, TTL, USER, member_key, number, rooms_of
from roomcast.store.large_rooms import member_pages
from roomcast.values import Value

GRACE = 15
"""Seconds without a connection in the room, after which a user's leave is told."""
MAX_LISTED = 100
"""Users of a room that are listed; of more, only how many there are."""
LISTED_AGAIN = 80
"""So few a crowded room must have to be listed again: at one number it would go back and forth."""
COUNT_SECONDS, POSTS_A_SECOND = 5, 10
"""Between two counts of a crowded room; or longer, so that they cost no more posts than this."""
LONGEST = 2 * 3600
"""Seconds that a connection lives at most, as API Gateway has it."""
_MARGIN = 60  # s; of clocks, and of the handshake
_KEPT = 24 * 3600  # s that rows and heads are kept when nothing happens
_SOON = 10  # s after which a row that is not told yet was forgotten
_LATEST = 900  # s; SQS's longest delay
_HEAD = "head"
_MOST_LOOKS = 10  # that one reading asks for


class Presence(Value):
    """Who is in a room.

    Attributes:
        version: of this state. The events of later changes have the next versions.
        count: how many users there are; of a crowded room as it was last counted.
        users: their names by their ids; None where the room is crowded, or its kind only counts.
    """

    version: int
    count: int
    users: Mapping[str, str] | None

    def __init__(self, version: int, count: int, users: Mapping[str, str] | None) -> None:
        vars(self).update(version=version, count=count, users=users)


class Change(NamedTuple):
    """What a room is to be told.

    Attributes:
        what: a user has `joined` or `left`; or how many are there: `count`.
        version: the state that this makes.
        user_id: who.
        name: the user's name.
        people: how many are there, with `count`.
        listed: whether they are listed now, with `count`.
    """

    what: Literal["joined", "left", "count"]
    version: int
    user_id: str = ""
    name: str = ""
    people: int = 0
    listed: bool = False


class Later(NamedTuple):
    """Another look is needed.

    Attributes:
        seconds: in how many.
        user_id: at whom; None: at how many there are.
    """

    seconds: int
    user_id: str | None


class Presences:
    """Presence of users in rooms.

    Args:
        tables: the tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def enter(self, room: Room, user_id: str, name: str) -> bool:
        """Take note that a connection of a user has become a member. One write unit.

        Returns:
            Whether the room has to be told: a look is needed.
        """
        now = self._tables.clock()
        row = self._tables.write(
            self._tables.client.update_item,
            TableName=self._tables.rooms,
            Key=_user_key(room, user_id),
            UpdateExpression="SET userName = :name, joinedAt = :now, presentUntil = :until, #ttl = :ttl "
            "ADD changes :one",
            ExpressionAttributeNames=TTL,
            ExpressionAttributeValues={
                ":name": {"S": name},
                ":now": _ms(now),
                ":until": number(now + LONGEST + _MARGIN),
                ":ttl": number(now + LONGEST + _KEPT),
                ":one": number(1),
            },
            ReturnValues="ALL_NEW",
        )["Attributes"]
        return "told" not in row

    def leave(self, room: Room, user_id: str) -> bool:
        """Take note that a membership of a user has ended. One write unit.

        Returns:
            Whether the user may have gone: a look is needed after `GRACE` seconds.
        """
        try:
            self._tables.write(
                self._tables.client.update_item,
                TableName=self._tables.rooms,
                Key=_user_key(room, user_id),
                UpdateExpression="SET leftAt = :now ADD changes :one",
                ConditionExpression="attribute_exists(changes)",
                ExpressionAttributeValues={":now": _ms(self._tables.clock()), ":one": number(1)},
            )
        except ConditionFailedError:
            return False
        return True

    def read(self, room: Room) -> tuple[Presence, list[str]]:
        """Who is in a room: one consistent Query, of about 3 read units for 100 users.

        Returns:
            Also whom somebody should look at: those who were not told of, or whose connections have ended.
        """
        head, rows, whole = self._query(room)
        now = self._tables.clock()
        present = {user: row for user, row in rows.items() if _until(row) > now}
        odd = [
            user
            for user, row in rows.items()
            if user not in present or ("told" not in row and _at(row, "joinedAt") < now - _SOON)
        ]
        crowded = self._is_crowded(room, head, len(present))
        people = _number(head, "people") if crowded and not whole else len(present)
        users = None if crowded else {user: row["userName"]["S"] for user, row in present.items()}
        return Presence(_number(head, "version"), people, users), odd[:_MOST_LOOKS]

    def look(self, room: Room, user_id: str) -> Change | Later | None:
        """Make what a room was told of a user the same as what is.

        Returns:
            What the room is to be told now, or when to look again. None: nothing has changed.
        """
        later: Later | None = None
        while True:
            head, rows, whole = self._query(room)
            row = rows.get(user_id) or ({} if whole else self._get(_user_key(room, user_id)))
            if not row:
                return later
            is_here = self.is_connected(room, user_id)
            told, now = "told" in row, self._tables.clock()
            if is_here and told:
                return later
            wait = max(_at(row, "joinedAt"), _at(row, "leftAt")) + GRACE - now
            if not is_here and wait > 0:
                return later or Later(int(wait) + 1, user_id)
            change = self._change(room, user_id, row, is_here=is_here)
            present = sum(_until(other) > now for other in rows.values())
            with suppress(ConditionFailedError):  # somebody has come or gone: from the start
                if not is_here and not told:
                    self._tables.transact(change)
                    return later
                if self._is_crowded(room, head, present):
                    later = later or self._count_later(room, max(present, _number(head, "people")))
                    self._tables.transact(change)
                    return later
                version = _number(head, "version") + 1
                self._tables.transact(change, self._moved(room, user_id, row, head, left=not is_here))
                return Change("joined" if is_here else "left", version, user_id, row["userName"]["S"])

    def last(self, room: Room, user_id: str) -> Change | Later | None:
        """What a look at a user may have died with: its change, if nothing has come after it."""
        head = self._get(_head_key(room))
        if head.get("lastUser", {}).get("S") == user_id:
            what: Literal["joined", "left"] = "left" if head["lastLeft"]["BOOL"] else "joined"
            return Change(what, _number(head, "version"), user_id, head["lastName"]["S"])
        return Later(COUNT_SECONDS, None) if "countAt" in head else None

    def count(self, room: Room) -> Change:
        """Count the users of a crowded room. What changes after this is counted again."""
        now, key = self._tables.clock(), {"TableName": self._tables.rooms, "Key": _head_key(room)}
        update = self._tables.client.update_item
        head = self._tables.write(
            update, **key, UpdateExpression="REMOVE countAt, countBy", ReturnValues="ALL_NEW"
        )["Attributes"]
        values = {":room": {"S": _partition(room)}, ":user": {"S": USER}, ":now": number(now)}
        pages = self._tables.pages(
            self._tables.client.query,
            TableName=self._tables.rooms,
            Select="COUNT",
            KeyConditionExpression="room = :room AND begins_with(#member, :user)",
            FilterExpression="presentUntil > :now",
            ExpressionAttributeNames=MEMBER_NAME,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        people = sum(page["Count"] for page in pages)
        most = LISTED_AGAIN if "crowded" in head else MAX_LISTED
        listed = room.kind.presence == "list" and people <= most
        values = {":people": number(people), ":ttl": number(now + LONGEST + _KEPT), ":one": number(1)}
        head = self._tables.write(
            update,
            **key,
            UpdateExpression="SET people = :people, #ttl = :ttl"
            + (" REMOVE crowded, lastUser" if listed else ", crowded = :yes REMOVE lastUser")
            + " ADD version :one",
            ExpressionAttributeNames=TTL,
            ExpressionAttributeValues=values if listed else {**values, ":yes": {"BOOL": True}},
            ReturnValues="ALL_NEW",
        )["Attributes"]
        return Change("count", _number(head, "version"), people=people, listed=listed)

    def is_connected(self, room: Room, user_id: str) -> bool:
        """Whether a connection of a user is in a room now: two consistent reads, one if there is none."""
        items = self._tables.read(
            self._connections(user_id),
            ProjectionExpression="connectionId, rooms, #ttl, expiresAt",
            ExpressionAttributeNames=TTL,
        )
        return any(room.name in rooms_of(item) for item in self._tables.alive(items))

    def online(self, user_ids: Iterable[str]) -> frozenset[str]:
        """Those of these users who have a connection: a consistent Query each, some side by side."""
        found: list[str] = []

        def look(user_id: str) -> None:
            if self._connections(user_id):
                found.append(user_id)

        failures = side_by_side(look, dict.fromkeys(user_ids))
        if failures:
            raise failures[0]
        return frozenset(found)

    # Steps

    def _connections(self, user_id: str) -> list[str]:
        """The user's connections: the members of the inbox, without those that are too old to be open."""
        oldest = timestamp(self._tables.clock() - LONGEST - _MARGIN)
        shown = {"ExpressionAttributeNames": MEMBER_NAME}
        return [
            item["member"]["S"].removeprefix(MEMBER)
            for page in member_pages(self._tables, inbox(user_id).name, **shown)
            for item in self._tables.alive(page["Items"])
            if item["connectedAt"]["S"] > oldest
        ]

    def _query(self, room: Room) -> tuple[Mapping[str, Any], dict[str, Mapping[str, Any]], bool]:
        """The head, the first rows by the users' ids, and whether these are all."""
        page = aws.call(
            self._tables.client.query,
            TableName=self._tables.rooms,
            KeyConditionExpression="room = :room",
            ExpressionAttributeValues={":room": {"S": _partition(room)}},
            ConsistentRead=True,
            Limit=MAX_LISTED + 2,
        )
        items: dict[str, Mapping[str, Any]] = {item["member"]["S"]: item for item in page["Items"]}
        head = items.pop(_HEAD, {})
        rows = {member.removeprefix(USER): item for member, item in items.items() if "userName" in item}
        return head, rows, "LastEvaluatedKey" not in page

    def _get(self, key: dict[str, Any]) -> Mapping[str, Any]:
        answer = aws.call(
            self._tables.client.get_item, TableName=self._tables.rooms, Key=key, ConsistentRead=True
        )
        item: Mapping[str, Any] = answer.get("Item", {})
        return item

    @staticmethod
    def _is_crowded(room: Room, head: Mapping[str, Any], present: int) -> bool:
        return room.kind.presence != "list" or "crowded" in head or present > MAX_LISTED

    def _change(self, room: Room, user_id: str, row: Mapping[str, Any], *, is_here: bool) -> dict[str, Any]:
        """The write that says that the room knows of the user, or no longer does, if nobody has come or gone
        since the row was read."""
        write: dict[str, Any] = {
            "TableName": self._tables.rooms,
            "Key": _user_key(room, user_id),
            "ConditionExpression": "changes = :changes AND "
            + ("attribute_exists(told)" if "told" in row else "attribute_not_exists(told)"),
            "ExpressionAttributeValues": {":changes": row["changes"]},
        }
        if not is_here:
            return {"Delete": write}
        write["UpdateExpression"] = "SET told = :yes"
        write["ExpressionAttributeValues"][":yes"] = {"BOOL": True}
        return {"Update": write}

    def _moved(
        self, room: Room, user_id: str, row: Mapping[str, Any], head: Mapping[str, Any], *, left: bool
    ) -> dict[str, Any]:
        """The write that gives a change the next version."""
        values = {
            ":to": number(_number(head, "version") + 1),
            ":user": {"S": user_id},
            ":name": row["userName"],
            ":left": {"BOOL": left},
            ":ttl": number(self._tables.clock() + LONGEST + _KEPT),
        }
        if "version" in head:
            values[":from"] = head["version"]
        update = {
            "TableName": self._tables.rooms,
            "Key": _head_key(room),
            "UpdateExpression": "SET version = :to, lastUser = :user, lastName = :name, lastLeft = :left, "
            "#ttl = :ttl",
            "ConditionExpression": "version = :from"
            if ":from" in values
            else "attribute_not_exists(version)",
            "ExpressionAttributeNames": TTL,
            "ExpressionAttributeValues": values,
        }
        return {"Update": update}

    def _count_later(self, room: Room, people: int) -> Later | None:
        """Ask for a count, unless somebody has."""
        now, mine = self._tables.clock(), new_id()
        seconds = min(max(COUNT_SECONDS, people // POSTS_A_SECOND), _LATEST)
        try:
            self._tables.write(
                self._tables.client.update_item,
                TableName=self._tables.rooms,
                Key=_head_key(room),
                UpdateExpression="SET countAt = :at, countBy = :mine",
                ConditionExpression="attribute_not_exists(countAt) OR countAt < :now",
                ExpressionAttributeValues={
                    ":at": number(now + 2 * seconds),
                    ":now": number(now),
                    ":mine": {"S": mine},
                },
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailedError as error:
            if error.item.get("countBy", {}).get("S") != mine:  # it is, where an answer was lost
                return None
        return Later(seconds, None)


def _partition(room: Room) -> str:
    return f"presence#{room.name}"


def _head_key(room: Room) -> dict[str, Any]:
    return member_key(_partition(room), _HEAD)


def _user_key(room: Room, user_id: str) -> dict[str, Any]:
    return member_key(_partition(room), USER + user_id)


def _ms(seconds: float) -> dict[str, Any]:
    return number(seconds * 1000)


def _at(row: Mapping[str, Any], attribute: str) -> float:
    """A time of a row in epoch seconds; 0 where there is none."""
    return _number(row, attribute) / 1000


def _until(row: Mapping[str, Any]) -> int:
    return _number(row, "presentUntil")


def _number(item: Mapping[str, Any], attribute: str) -> int:
    return int(item.get(attribute, {}).get("N", 0))
