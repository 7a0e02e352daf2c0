"""How much a connection and a user may do: a generic cell rate algorithm (GCRA), one update for each time."""

import math
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from roomcast.connection import Connection
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import TTL, USER, connection_key, member_key, number, to_connection

_REMEMBERED = 1_000  # connections
_KEPT_SECONDS = 24 * 3600  # for which the rate of a user is kept


class Rate(NamedTuple):
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


class Admission(NamedTuple):
    """What the rate and the token say to one action.

    Attributes:
        connection: who acts.
        verdict: `ok`, or why the action is refused; with `flooding` the connection is to be
            closed.
        retry_after: seconds until an action would be let through again.
    """

    connection: Connection
    verdict: Literal["ok", "rate_limited", "flooding", "expired"]
    retry_after: float = 0


class Admissions:
    """Counts the actions of connections.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._tats: dict[str, float] = {}  # of the last actions here, by connection id

    def admit(self, connection_id: str, rate: Rate) -> Admission | None:
        """Count one action of a connection and read who it is.

        One call for an action that comes after a pause of one interval or more, and for one of a burst whose
        last action this process has counted; two for the others of a burst. What this process remembers only
        says which of the two to try first: both are conditional.

        Args:
            connection_id: who acts.
            rate: how many actions it may do.

        Returns:
            None where the connection is unknown.
        """
        # `tat`, the theoretical arrival time of GCRA: milliseconds up to which the actions so far have used
        # the rate up. It moves on with refused actions too, so that a flood differs from a slip.
        busy = self._tats.get(connection_id, 0) >= self._tables.clock() * 1000
        while True:
            now = self._tables.clock() * 1000
            try:
                if not busy:
                    idle = "attribute_exists(userId) AND (attribute_not_exists(tat) OR tat < :now)"
                    item = self._move_tat(connection_id, "SET tat = :tat", idle, now, now + rate.interval)
                    break
            except ConditionFailedError as error:
                if "userId" not in error.item:
                    return None
            busy = False
            with suppress(ConditionFailedError):  # it has become idle in between: again from the start
                item = self._move_tat(
                    connection_id,
                    "ADD tat :tat",
                    "attribute_exists(userId) AND tat >= :now",
                    now,
                    rate.interval,
                )
                break
        if len(self._tats) >= _REMEMBERED:
            self._tats.clear()
        self._tats[connection_id] = float(item["tat"]["N"])
        connection = to_connection(item)
        if connection.ttl * 1000 <= now:
            return None
        over = float(item["tat"]["N"]) - now - rate.burst * rate.interval
        if over <= 0:
            return Admission(connection, "expired" if connection.expires_at * 1000 <= now else "ok")
        verdict: Literal["flooding", "rate_limited"] = (
            "flooding" if over > rate.debt * rate.interval else "rate_limited"
        )
        # One interval more than it is over: the next action needs room for itself.
        return Admission(connection, verdict, math.ceil(over + rate.interval) / 1000)

    def _move_tat(
        self, connection_id: str, update: str, condition: str, now: float, tat: float
    ) -> dict[str, Any]:
        answer = self._tables.write(
            self._tables.client.update_item,
            TableName=self._tables.connections,
            Key=connection_key(connection_id),
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeValues={":now": number(now), ":tat": number(tat)},
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        item: dict[str, Any] = answer["Attributes"]
        return item


class UserRates:
    """Counts what a user does, over all of the user's connections.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def take(self, user_id: str, what: Literal["sends", "signals"], rate: Rate) -> float:
        """Count one of them, if the rate lets it through.

        One call after a pause of one interval or more, and two within a burst. What is refused is not
        counted: the rate of the connection bounds how often a client asks.

        Args:
            user_id: who.
            what: each has a rate of its own.
            rate: how many; its debt is not used.

        Returns:
            0, or the seconds until one would be let through.
        """
        busy = False
        while True:
            now = self._tables.clock() * 1000
            latest = now + (rate.burst - 1) * rate.interval
            try:
                if busy:
                    values = {":now": number(now), ":latest": number(latest), ":tat": number(rate.interval)}
                    self._move(user_id, what, "ADD tat :tat", "tat BETWEEN :now AND :latest", values)
                else:
                    values = {":now": number(now), ":tat": number(now + rate.interval)}
                    values[":ttl"] = number(now / 1000 + _KEPT_SECONDS)
                    free = "attribute_not_exists(tat) OR tat < :now"
                    self._move(user_id, what, "SET tat = :tat, #ttl = :ttl", free, values)
            except ConditionFailedError as error:
                tat = float(error.item.get("tat", {}).get("N", 0))
                if tat > latest:
                    return math.ceil(tat - latest) / 1000
                busy = tat >= int(now)
            else:
                return 0

    def _move(
        self, user_id: str, what: str, update: str, condition: str, values: dict[str, dict[str, str]]
    ) -> None:
        names = {"ExpressionAttributeNames": TTL} if "#ttl" in update else {}
        self._tables.write(
            self._tables.client.update_item,
            TableName=self._tables.rooms,
            Key=member_key(USER + user_id, what),
            UpdateExpression=update,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **names,
        )
