"""The two tables and how they are asked: transactions, retries, pages.

DynamoDB deletes expired items up to days late, so every read leaves out what is past its `ttl` or whose token
is past its `expiresAt` (`Tables.alive`: here and not as a FilterExpression, which would have to say it again,
costs the same read units, and saves 60 bytes of an item's answer).
"""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from roomcast.errors import RoomcastError
from roomcast.settings import Settings
from roomcast.store.items import connection_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CONFLICTS = {"TransactionConflictException", "TransactionConflict"}
_BATCH_GET = 100  # items in a BatchGetItem (DynamoDB's limit)
_BATCH_WRITE = 25  # items in a BatchWriteItem (DynamoDB's limit)
_ATTEMPTS = 5  # for transactions that met another one on the same item, and unprocessed batch items


class ConditionFailedError(RoomcastError):
    """A condition did not hold. It never leaves the store.

    Attributes:
        index: which of a transaction's writes it belongs to, the first where several failed; else 0.
        item: the item as it was, where that was asked for.
    """

    def __init__(self, index: int, item: Mapping[str, Any]) -> None:
        super().__init__(f"the condition of write {index} failed")
        self.index = index
        self.item = item


class Tables:
    """The connections table and the rooms table.

    Args:
        client: a botocore client for `dynamodb`.
        connections: the name of the one.
        rooms: the name of the other.
        clock: epoch seconds.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        connections: str,
        rooms: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self.connections = connections
        self.rooms = rooms
        self.clock = clock

    @classmethod
    def from_settings(cls, settings: Settings, session: botocore.session.Session | None = None) -> "Tables":
        """Make them with a client of their own.

        Args:
            settings: the tables' names.
            session: botocore's, where the caller has one; region, credentials and `AWS_ENDPOINT_URL` are its.
        """
        # A user agent of our own: building the usual one anew is an eighth of a call's CPU.
        config = Config(user_agent="roomcast")
        client: Any = (session or botocore.session.get_session()).create_client("dynamodb", config=config)
        for operation in ("Query", "Scan"):
            client.meta.events.register(f"before-parse.dynamodb.{operation}", _take_items)
        return cls(client, settings.connections_table, settings.rooms_table)

    def transact(self, *writes: dict[str, Any]) -> None:
        """Write all or nothing.

        Raises:
            ConditionFailedError: nothing was written.
        """
        self.write(self.client.transact_write_items, TransactItems=writes)

    def write(self, write: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        """Do one write, again where a transaction was on the same item.

        Raises:
            ConditionFailedError: its condition did not hold.
        """
        for attempt in itertools.count():
            try:
                answer: dict[str, Any] = write(**arguments)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                failed: Any = error.response
                if code == "ConditionalCheckFailedException":
                    raise ConditionFailedError(0, failed.get("Item", {})) from None
                reasons = failed.get("CancellationReasons", ())
                for index, reason in enumerate(reasons):
                    if reason["Code"] == "ConditionalCheckFailed":
                        raise ConditionFailedError(index, reason.get("Item", {})) from None
                conflict = {code, *(reason["Code"] for reason in reasons)} & _CONFLICTS
                if not conflict or attempt + 1 == _ATTEMPTS:
                    raise
                _back_off(attempt)
            else:
                return answer
        raise AssertionError("unreachable")

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
            for attempt in range(_ATTEMPTS):
                answer = self.client.batch_get_item(RequestItems=wanted)
                yield from answer["Responses"].get(self.connections, [])
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
                _back_off(attempt)
            else:
                raise _unprocessed("BatchGetItem")

    def delete_rows(self, keys: Iterable[dict[str, Any]]) -> None:
        """Delete rows of the rooms table by BatchWriteItem; those that are not there do not matter."""
        rest = iter(keys)
        while chunk := list(itertools.islice(rest, _BATCH_WRITE)):
            wanted: Any = {self.rooms: [{"DeleteRequest": {"Key": key}} for key in chunk]}
            for attempt in range(_ATTEMPTS):
                wanted = self.client.batch_write_item(RequestItems=wanted).get("UnprocessedItems")
                if not wanted:
                    break
                _back_off(attempt)
            else:
                raise _unprocessed("BatchWriteItem")


def page_config(size: int | None) -> Any:
    """The paginator setting for pages of this many items; None: as large as DynamoDB makes them (1 MB)."""
    return {} if size is None else {"PageSize": size}


def _take_items(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Take a page's items as JSON has them, which for strings and numbers is how botocore would give them.

    A million receivers are a million items: botocore's parser takes 15 µs for each, this 3 µs.
    """
    if response_dict["status_code"] == 200:
        page = json.loads(response_dict["body"])
        customized_response_dict["Items"] = page.pop("Items", [])
        response_dict["body"] = json.dumps(page).encode()


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311  full jitter needs no secrecy


def _unprocessed(operation: str) -> ClientError:
    code = "ProvisionedThroughputExceededException"
    return ClientError({"Error": {"Code": code, "Message": "items were left unprocessed"}}, operation)
