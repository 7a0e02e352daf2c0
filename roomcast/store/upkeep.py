"""What operators do with the history table: list its streams, and erase a user from it."""

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from roomcast.rooms import inbox
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.history import mark_key
from roomcast.store.replay import HEAD

ERASED = "rooms:erased"
"""The event of a message that was erased; its data is null."""


class Erasure(NamedTuple):
    """What was erased.

    Attributes:
        received: messages of the user's inbox, which are deleted.
        sent: messages that the user has published in rooms. Their event, data and sender are overwritten, and
            their numbers stay, so that the other members miss nothing.
    """

    received: int
    sent: int


class Upkeep:
    """Reads of the whole history table, and what is done with what they find.

    Args:
        tables: the tables, with that of the histories.
        name: the history table's.
    """

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables = tables
        self._name = name

    def streams(self) -> Iterator[str]:
        """The rooms that have a stream: a Scan of the whole table."""
        for item in self._scan(
            FilterExpression="begins_with(#stream, :head)",
            ExpressionAttributeNames={"#stream": "stream"},
            ExpressionAttributeValues={":head": {"S": HEAD}},
            ProjectionExpression="#stream",
        ):
            yield item["stream"]["S"].removeprefix(HEAD)

    def erase(self, user_id: str) -> Erasure:
        """Erase what a user was sent, and what it has published. Done again, it finds what is new.

        What a backend has sent to rooms about the user cannot be known. The head of the inbox stays: it has a
        number and no message.
        """
        room = inbox(user_id).name
        received = sent = 0
        for item in self._scan(FilterExpression="attribute_exists(envelope)"):
            if item["stream"]["S"] == room:
                keys = [{key: item[key] for key in ("stream", "seq")}, mark_key(room, item["id"]["S"])]
                for key in keys:
                    self._tables.write(self._tables.client.delete_item, TableName=self._name, Key=key)
                received += 1
            elif _is_from(user_id, item["envelope"]["S"]):
                sent += self._overwrite(item)
        return Erasure(received, sent)

    def _overwrite(self, item: dict[str, Any]) -> bool:
        old = json.loads(item["envelope"]["S"])
        kept = {key: old[key] for key in ("timestamp", "id", "room", "seq", "epoch") if key in old}
        with suppress(ConditionFailedError):  # it has expired meanwhile
            self._tables.write(
                self._tables.client.update_item,
                TableName=self._name,
                Key={key: item[key] for key in ("stream", "seq")},
                UpdateExpression="SET envelope = :erased",
                ConditionExpression="id = :id",
                ExpressionAttributeValues={
                    ":erased": {
                        "S": json.dumps({"event": ERASED, "data": None, **kept}, separators=(",", ":"))
                    },
                    ":id": item["id"],
                },
            )
            return True
        return False

    def _scan(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        pages = self._tables.pages(
            self._tables.client.scan, TableName=self._name, ConsistentRead=True, **arguments
        )
        return itertools.chain.from_iterable(page["Items"] for page in pages)


def _is_from(user_id: str, text: str) -> bool:
    sender = json.loads(text).get("from")
    return isinstance(sender, dict) and sender.get("id") == user_id
