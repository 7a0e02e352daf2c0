"""One-time tickets. Only their hash is kept."""

import json
from hashlib import sha256
from typing import Any

from roomcast import aws
from roomcast.connection import Identity
from roomcast.store.dynamodb import Tables
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
        item: dict[str, Any] = {
            **_ticket_key(ticket),
            "identity": {"S": json.dumps(identity._asdict())},
            "ttl": number(self._tables.clock() + TICKET_SECONDS),
        }
        self._tables.write(self._tables.client.put_item, TableName=self._tables.rooms, Item=item)

    def read(self, ticket: str) -> Identity | None:
        """Whose ticket this is; None where it is unknown, used or too old.

        It is used up by `Connections.connect`, together with what it lets in: a handshake that fails costs no
        ticket, and a lost answer no handshake.
        """
        item = aws.call(
            self._tables.client.get_item,
            TableName=self._tables.rooms,
            Key=_ticket_key(ticket),
            ConsistentRead=True,
        ).get("Item")
        if not item or float(item["ttl"]["N"]) <= self._tables.clock():
            return None
        return Identity(**json.loads(item["identity"]["S"]))


def use_ticket(tables: Tables, ticket: str) -> dict[str, Any]:
    """A write for a transaction: the ticket is there, and then it is not."""
    delete = {
        "TableName": tables.rooms,
        "Key": _ticket_key(ticket),
        "ConditionExpression": "attribute_exists(room)",
    }
    return {"Delete": delete}


def _ticket_key(ticket: str) -> dict[str, Any]:
    return member_key("ticket#" + sha256(ticket.encode(errors="replace")).hexdigest(), "ticket")
