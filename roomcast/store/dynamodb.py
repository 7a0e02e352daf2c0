"""The tables and how they are asked: transactions, retries, pages.

DynamoDB deletes expired items up to days late, so every read leaves out what is past its `ttl` or whose token
is past its `expiresAt` (`Tables.alive`: here and not as a FilterExpression, which would have to say it again,
costs the same read units, and saves 60 bytes of an item's answer).
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from roomcast import aws
from roomcast.aws_client import waiting
from roomcast.aws_client.failures import refused
from roomcast.envelope import new_id
from roomcast.errors import AwsRefusedError, RoomcastError
from roomcast.settings import Settings
from roomcast.store.items import connection_key

if TYPE_CHECKING:
    import botocore.session
    from mypy_boto3_dynamodb import DynamoDBClient

_BATCH_GET = 100  # items in a BatchGetItem (DynamoDB's limit)
_BATCH_WRITE = 25  # items in a BatchWriteItem (DynamoDB's limit)
_AT_ONCE = 8  # calls side by side

_Item = TypeVar("_Item")


class Ended(Protocol):
    """Hears of memberships that have ended."""

    def __call__(self, user_id: str, rooms: list[str], connection_id: str, *, closed: bool) -> None:
        """Called with the user, the rooms, the connection, and whether it is closed with them."""


class ConditionFailedError(RoomcastError):
    """A condition did not hold. It never leaves the store.

    Attributes:
        index: which of a transaction's writes it belongs to, the first where several failed; else 0.
        indexes: all of them.
        item: the item of the first as it was, where that was asked for.
    """

    def __init__(self, indexes: Sequence[int], item: Mapping[str, Any]) -> None:
        super().__init__(f"the condition of write {indexes[0]} failed")
        self.index = indexes[0]
        self.indexes = frozenset(indexes)
        self.item = item


class Tables:
    """The connections table, the rooms table and the history table.

    Args:
        client: a client for `dynamodb`, of `roomcast.aws` or botocore.
        connections: the name of the first.
        rooms: of the second.
        clock: epoch seconds.
        history: of the third; None: no room keeps a history.

    Attributes:
        left: called with a user and the rooms that a connection of this user was in, when it has ended.
        ended: called when memberships have ended by a revocation, a disconnect or a prune. None where nobody
            wants to know.
        closed_with: clients of other services.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        connections: str,
        rooms: str,
        clock: Callable[[], float] = time.time,
        *,
        history: str | None = None,
    ) -> None:
        self.client = client
        self.history = history
        self.connections = connections
        self.rooms = rooms
        self.clock = clock
        self.left: Callable[[str, list[str]], None] | None = None
        self.ended: Ended | None = None
        self.closed_with: list[Any] = []

    @classmethod
    def from_settings(cls, settings: Settings, session: "botocore.session.Session | None" = None) -> "Tables":
        """Make them with a client of their own.

        Args:
            settings: the tables' names.
            session: botocore's, where the caller has one; region, credentials and `AWS_ENDPOINT_URL` are its.
        """
        client = aws.client("dynamodb", session)
        return cls(client, settings.connections_table, settings.rooms_table, history=settings.history_table)

    def close(self) -> None:
        """Close the connections to AWS. A later call opens others."""
        for client in (self.client, *self.closed_with):
            client.close()

    def transact(self, *writes: dict[str, Any]) -> None:
        """Write all or nothing, and once: a retry after a lost answer is not done again.

        Raises:
            ConditionFailedError: nothing was written.
        """
        token = new_id()  # botocore would make another one for each try
        self.write(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)

    def write(self, write: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        """Do one write.

        Raises:
            ConditionFailedError: its condition did not hold.
        """
        try:
            answer: dict[str, Any] = aws.call(write, **arguments)
        except AwsRefusedError as error:
            failed: Any = error.response
            if failed["Error"]["Code"] == "ConditionalCheckFailedException":
                raise ConditionFailedError([0], failed.get("Item", {})) from None
            reasons = failed.get("CancellationReasons", ())
            indexes = [i for i, why in enumerate(reasons) if why["Code"] == "ConditionalCheckFailed"]
            if indexes:
                raise ConditionFailedError(indexes, reasons[indexes[0]].get("Item", {})) from None
            raise
        return answer

    def pages(self, read: Callable[..., Any], **arguments: Any) -> Iterator[dict[str, Any]]:
        """Do a Query or a Scan to its end, page by page."""
        while True:
            page: dict[str, Any] = aws.call(read, **arguments)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def alive(self, items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Those of the items that are neither expired nor tombstones."""
        now = self.clock()
        for item in items:
            ttl, expires_at = item.get("ttl"), item.get("expiresAt")
            if ttl and expires_at and float(ttl["N"]) > now and float(expires_at["N"]) > now:
                yield item

    def read(self, connection_ids: Iterable[str], **projection: Any) -> Iterator[Any]:
        """Read connections' items, expired ones too, by BatchGetItem with consistent reads."""
        ids = iter(connection_ids)
        while keys := [connection_key(connection_id) for connection_id in itertools.islice(ids, _BATCH_GET)]:
            wanted: Any = {self.connections: {"Keys": keys, "ConsistentRead": True, **projection}}
            for _ in aws.attempts():
                answer = aws.call(self.client.batch_get_item, RequestItems=wanted)
                yield from answer["Responses"].get(self.connections, [])
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
            else:
                raise left_over("BatchGetItem")

    def delete_rows(self, keys: Iterable[dict[str, Any]]) -> None:
        """Delete rows of the rooms table by BatchWriteItem; those that are not there do not matter."""
        rest = iter(keys)
        while chunk := list(itertools.islice(rest, _BATCH_WRITE)):
            wanted: Any = {self.rooms: [{"DeleteRequest": {"Key": key}} for key in chunk]}
            for _ in aws.attempts():
                answer = aws.call(self.client.batch_write_item, RequestItems=wanted)
                wanted = answer.get("UnprocessedItems")
                if not wanted:
                    break
            else:
                raise left_over("BatchWriteItem")


def side_by_side(do: Callable[[_Item], object], items: Iterable[_Item]) -> list[Exception]:
    """Do something for each item, some at a time, each within the caller's deadline. Return what failed."""
    todo = list(items)

    def attempt(item: _Item) -> Exception | None:
        try:
            do(item)
        except Exception as error:  # noqa: BLE001  returned to the caller, after the others are done
            return error
        return None

    if len(todo) < 2:
        failures = map(attempt, todo)
        return [error for error in failures if error]
    with waiting.group(min(_AT_ONCE, len(todo))) as group:
        running = {group.submit(partial(attempt, item)) for item in todo}
        failed = []
        while running:
            for done in group.first_done(running):
                running.remove(done)
                failed.append(done.result())
    return [error for error in failed if error]


def pages_side_by_side(reads: Iterable[Iterator[_Item]]) -> Iterator[_Item]:
    """The pages of several reads in the order in which they come: some reads at a time, each at most one page
    ahead of the caller."""
    with waiting.group(_AT_ONCE) as group:
        running = {group.submit(partial(next, read, None)): read for read in reads}
        while running:
            for done in group.first_done(running):
                read, page = running.pop(done), done.result()
                if page is not None:
                    running[group.submit(partial(next, read, None))] = read
                    yield page


def limit(page_size: int | None) -> Any:
    """The argument for pages of at most this many items; None: as large as DynamoDB makes them (1 MB)."""
    return {} if page_size is None else {"Limit": page_size}


def left_over(operation: str) -> AwsRefusedError:
    """What to raise where a batch leaves items over to the end."""
    code = "ProvisionedThroughputExceededException"
    return refused({"Error": {"Code": code, "Message": "items were left unprocessed"}}, operation)
