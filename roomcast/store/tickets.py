"""One-time tickets. Only their hash is kept."""

import json
from hashlib import sha256
from typing import Any

from roomcast.connection import Identity
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import member_key, number

TICKET_SECONDS = 30


class Tickets:
    """Rows of the rooms table.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def put(self, ticket: str, identity: Identity) -> None:
        """Keep a one-time ticket for 30 seconds. Only its hash is kept."""
        who = {field: getattr(identity, field) for field in Identity.__slots__}
        item: dict[str, Any] = {
            **_ticket_key(ticket),
            "identity": {"S": json.dumps(who)},
            "ttl": number(self._tables.clock() + TICKET_SECONDS),
        }
        self._tables.client.put_item(TableName=self._tables.rooms, Item=item)

    def take(self, ticket: str) -> Identity | None:
        """Whose ticket this is; None where it is unknown, used or too old. It cannot be taken twice."""
        try:
            answer = self._tables.write(
                self._tables.client.delete_item,
                TableName=self._tables.rooms,
                Key=_ticket_key(ticket),
                ConditionExpression="#ttl > :now",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":now": number(self._tables.clock())},
                ReturnValues="ALL_OLD",
            )
        except ConditionFailedError:
            return None
        return Identity(**json.loads(answer["Attributes"]["identity"]["S"]))


def _ticket_key(ticket: str) -> dict[str, Any]:
    return member_key("ticket#" + sha256(ticket.encode(errors="replace")).hexdigest(), "ticket")
