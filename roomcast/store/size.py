"""How many connections are open, as last counted: one row of the rooms table."""

import logging

from roomcast import aws
from roomcast.errors import AwsError
from roomcast.store.dynamodb import Tables
from roomcast.store.items import member_key, number

READ_AGAIN_SECONDS = 60
"""How long a warm function takes the number that it has read for the present one."""
_PATIENCE = 0.2  # s in which a retry may begin: nobody waits for a hint

log = logging.getLogger(__name__)


class Size:
    """The count of the stage's connections.

    Args:
        tables: for the client and the clock.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._count = 0
        self._read_at = float("-inf")

    def put(self, count: int) -> None:
        """Keep how many connections there are."""
        item = {**member_key("stage#size", "size"), "connections": number(count)}
        self._tables.write(self._tables.client.put_item, TableName=self._tables.rooms, Item=item)

    def last(self) -> int:
        """The last count; 0 where the stage does not count. Read at most once a minute.

        It is a hint: a read that fails gives what was known before, and nothing is raised.
        """
        now = self._tables.clock()
        if now - self._read_at >= READ_AGAIN_SECONDS:
            self._read_at = now
            try:
                with aws.within(_PATIENCE):
                    item = aws.call(
                        self._tables.client.get_item,
                        TableName=self._tables.rooms,
                        Key=member_key("stage#size", "size"),
                    ).get("Item")
                self._count = int(item["connections"]["N"]) if item else 0
            except AwsError as error:
                log.warning("the size of the stage is not known: %s", type(error).__name__)
        return self._count
