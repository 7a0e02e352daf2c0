"""Users that are kept out."""

from typing import Any

from roomcast import aws
from roomcast.connection import Identity
from roomcast.store.dynamodb import Tables
from roomcast.store.items import USER, member_key, number


class Revocations:
    """One row of the rooms table for each user that was revoked.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def revoke(self, user_id: str) -> None:
        """Keep a user out until a token that is issued in a later second than this."""
        item = {**member_key(USER + user_id, "revoked"), "notBefore": number(self._tables.clock())}
        self._tables.write(self._tables.client.put_item, TableName=self._tables.rooms, Item=item)

    def lift(self, user_id: str) -> None:
        """Let the user in again with any good token. Twice is the same as once."""
        key = member_key(USER + user_id, "revoked")
        self._tables.write(self._tables.client.delete_item, TableName=self._tables.rooms, Key=key)

    def includes(self, identity: Identity) -> bool:
        """Whether the user was revoked after the token was issued."""
        item = aws.call(
            self._tables.client.get_item,
            TableName=self._tables.rooms,
            Key=member_key(USER + identity.user_id, "revoked"),
            ConsistentRead=True,
        ).get("Item")
        return item is not None and int(item["notBefore"]["N"]) >= identity.issued_at


def unless_revoked(tables: Tables, user_id: str, issued_at: int) -> dict[str, Any]:
    """A condition for a transaction: the user was not revoked since the token was issued."""
    check = {
        "TableName": tables.rooms,
        "Key": member_key(USER + user_id, "revoked"),
        "ConditionExpression": "attribute_not_exists(notBefore) OR notBefore < :issuedAt",
        "ExpressionAttributeValues": {":issuedAt": number(issued_at)},
    }
    return {"ConditionCheck": check}
