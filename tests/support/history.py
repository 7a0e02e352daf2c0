"""The history table for tests and benchmarks."""

from typing import Any


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
