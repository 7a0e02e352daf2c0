"""The history table for tests and benchmarks."""

from collections.abc import Callable
from typing import Any

from tests.fakes.dynamodb import FakeDynamoDB

_KEYS = {"history": ("stream", "seq"), "rooms": ("room", "member"), "connections": ("connectionId",)}


def create_history(client: Any) -> None:
    """Make it, as the stack defines it."""
    client.create_table(
        TableName="history",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "stream", "AttributeType": "S"},
            {"AttributeName": "seq", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "stream", "KeyType": "HASH"},
            {"AttributeName": "seq", "KeyType": "RANGE"},
        ],
    )


def expire(
    db: FakeDynamoDB, now: float, chosen: Callable[[int], bool] = lambda _: True, table: str = "history"
) -> None:
    """DynamoDB deletes items that have expired: all, or those that are chosen by their place in a Scan."""
    for number, item in enumerate(db.scan(TableName=table)["Items"]):
        if "ttl" in item and float(item["ttl"]["N"]) < now and chosen(number):
            db.delete_item(TableName=table, Key={key: item[key] for key in _KEYS[table]})
