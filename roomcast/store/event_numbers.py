"""The numbers of a user's server events: one permanent item for each user, which has a number and no more."""

from contextlib import suppress
from typing import Any

from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import USER, member_key, number


class EventNumbers:
    """Counts the server events of users: 1, 2, 3, ...

    Args:
        tables: the tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def take(self, user_id: str, count: int = 1) -> int:
        """Take the next numbers of a user: one write unit. Nobody else gets them.

        Where the answer is lost, the retry takes others, and the first ones are never used.

        Args:
            user_id: whose.
            count: how many.

        Returns:
            The last of them.
        """
        answer = self._tables.write(
            self._tables.client.update_item,
            **self._item(user_id),
            UpdateExpression="ADD seq :count",
            ExpressionAttributeValues={":count": number(count)},
            ReturnValues="ALL_NEW",
        )
        return int(answer["Attributes"]["seq"]["N"])

    def give_back(self, user_id: str, last: int, count: int) -> None:
        """Give numbers back that are not used, up to the last one taken. If others have been taken meanwhile,
        they are never used.

        A transaction, for two write units: a retry of it is not done again, when somebody else may have the
        number.
        """
        update = {
            **self._item(user_id),
            "UpdateExpression": "SET seq = :before",
            "ConditionExpression": "seq = :last",
            "ExpressionAttributeValues": {":last": number(last), ":before": number(last - count)},
        }
        with suppress(ConditionFailedError):
            self._tables.transact({"Update": update})

    def _item(self, user_id: str) -> dict[str, Any]:
        return {"TableName": self._tables.rooms, "Key": member_key(USER + user_id, "events")}
