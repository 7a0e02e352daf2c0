"""Windows of last values: what the head of a stream says of them.

Of several sends to a last value within a window only the newest is posted. The head has `heldUntil`, the end
of the window in epoch milliseconds; `turn`, how often a job of the fan-out queue has posted the newest; and
`jobFor`, the turn for which such a job is on the queue. `sending/coalescing.py` has the rules.
"""

from typing import Any

from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import number
from roomcast.store.replay import Head, head_key, to_head


class Windows:
    """Writes of heads, each on the condition that nobody else has been there.

    Args:
        tables: for the client.
        name: the history table's.
    """

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables = tables
        self._name = name

    def hold(self, stream: str, seen: Head, until: int) -> Head | None:
        """Begin a window, if none has begun since the head was seen.

        Returns:
            The head as it is now; its `held_until` is `until` if the window is the caller's. None: there is
            no head, in a table that was made anew.
        """
        before = {":seen": number(seen.held_until)} if seen.held_until else {}
        condition = (
            "heldUntil = :seen" if before else "attribute_exists(epoch) AND attribute_not_exists(heldUntil)"
        )
        return self._update(stream, "SET heldUntil = :until", condition, {":until": number(until), **before})

    def next_turn(self, stream: str, turn: int, until: int) -> Head | None:
        """End a turn, and begin a window with the next one.

        Returns:
            As `hold`.
        """
        condition = "turn = :turn" if turn else "attribute_exists(epoch) AND attribute_not_exists(turn)"
        values = {":next": number(turn + 1), ":until": number(until)}
        if turn:
            values[":turn"] = number(turn)
        return self._update(stream, "SET turn = :next, heldUntil = :until", condition, values)

    def note_job(self, stream: str, seen: Head, until: int) -> None:
        """Say that a job for the turn that was seen is on the queue, unless that turn has ended."""
        condition = "turn = :turn" if seen.turn else "attribute_exists(epoch) AND attribute_not_exists(turn)"
        values = {":turn": number(seen.turn), ":until": number(until)}
        self._update(stream, "SET jobFor = :turn, heldUntil = :until", condition, values)

    def _update(self, stream: str, update: str, condition: str, values: dict[str, Any]) -> Head | None:
        try:
            answer = self._tables.write(
                self._tables.client.update_item,
                TableName=self._name,
                Key=head_key(stream),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailedError as error:
            return to_head(error.item) if error.item else None
        return to_head(answer["Attributes"])
