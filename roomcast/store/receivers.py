"""Who gets a send.

DynamoDB reads and bills whole pages of up to 1 MB. Set `page_size` when the first few items may be enough.
"""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from roomcast.connection import Receiver
from roomcast.names import Room
from roomcast.store.dynamodb import Tables, page_config
from roomcast.store.items import (
    MEMBER,
    MEMBER_NAME,
    RECEIVER,
    TTL,
    USER_INDEX,
    to_receiver,
)
from roomcast.store.members import query_members

_SEGMENTS = 4  # parallel Scans


class Receivers:
    """Reads of both tables.

    Args:
        tables: the two tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def of_room(self, room: Room, *, page_size: int | None = None) -> Iterator[Receiver]:
        """The members of a room: Queries of only that room, consistent, so that a member whose join was
        answered is among them."""
        members = query_members(
            self._tables,
            room,
            ProjectionExpression="#member, connectedAt, #ttl, expiresAt",
            ExpressionAttributeNames=MEMBER_NAME | TTL,
            PaginationConfig=page_config(page_size),
        )
        for item in self._tables.alive(members):
            connection_id = item["member"]["S"].removeprefix(MEMBER)
            yield Receiver(connection_id, item["connectedAt"]["S"], was_open=True)

    def of_user(
        self, user_id: str, *, expired: bool = False, page_size: int | None = None
    ) -> Iterator[Receiver]:
        """A user's connections: a Query and a BatchGetItem.

        Args:
            user_id: whose.
            expired: also those whose token has ended: they get no event, but may be open still.
            page_size: items that one Query reads.

        The index is keys only and eventually consistent: it may lag a connect by some milliseconds. The items
        are read behind it, since an index without `expiresAt` cannot tell an expired token.
        """
        return self._receivers(user_connection_ids(self._tables, user_id, page_size), expired=expired)

    def of_connection(self, connection_id: str) -> Receiver | None:
        """One connection; None where it is unknown or expired."""
        return next(self._receivers([connection_id]), None)

    def oldest_of_user(self, user_id: str, keep: int) -> list[Receiver]:
        """A user's connections but the newest `keep`, oldest first. One Query where there are no more."""
        ids = list(user_connection_ids(self._tables, user_id))
        if len(ids) <= keep:
            return []
        receivers = sorted(self._receivers(ids), key=lambda receiver: receiver.connected_at)
        return receivers[: max(len(receivers) - keep, 0)]

    def of_everybody(self, *, page_size: int | None = None) -> Iterator[Receiver]:
        """Every connection, by a paged Scan of the connections table."""
        for page in self._scan(PaginationConfig=page_config(page_size)):
            yield from page

    def pages_of_everybody(self, segments: int = _SEGMENTS) -> Iterator[list[Receiver]]:
        """Every connection, by parallel Scans of this many segments of the connections table.

        A page is at most 1 MB of items. Memory is bounded: a Scan waits while two pages of it are unread.
        """
        pages: queue.Queue[list[Receiver] | Exception | None] = queue.Queue(2 * segments)
        stopped = threading.Event()

        def scan(segment: int) -> None:
            end: Exception | None = None
            try:
                for page in self._scan(Segment=segment, TotalSegments=segments):
                    pages.put(page)
                    if stopped.is_set():
                        return
            except Exception as error:  # noqa: BLE001  raised again where the pages are read
                end = error
            pages.put(end)

        threads = [
            threading.Thread(target=scan, args=(segment,), name=f"scan-{segment}", daemon=True)
            for segment in range(segments)
        ]
        for thread in threads:
            thread.start()
        try:
            running = segments
            while running:
                page = pages.get()
                if isinstance(page, Exception):
                    raise page
                if page is None:
                    running -= 1
                else:
                    yield page
        finally:
            stopped.set()
            while any(thread.is_alive() for thread in threads):
                with suppress(queue.Empty):  # what is unread may block a thread
                    pages.get(timeout=0.01)

    def _scan(self, **more: Any) -> Iterator[list[Receiver]]:
        pages = self._tables.client.get_paginator("scan").paginate(
            TableName=self._tables.connections,
            ProjectionExpression=RECEIVER,
            ExpressionAttributeNames=TTL,
            **more,
        )
        for page in pages:
            yield [to_receiver(item) for item in self._tables.alive(page["Items"])]

    def _receivers(self, connection_ids: Iterable[str], *, expired: bool = False) -> Iterator[Receiver]:
        items = self._tables.read(connection_ids, ProjectionExpression=RECEIVER, ExpressionAttributeNames=TTL)
        return map(to_receiver, items if expired else self._tables.alive(items))


def user_connection_ids(tables: Tables, user_id: str, page_size: int | None = None) -> Iterator[str]:
    """The ids of a user's connections, from the index: eventually consistent, expired ones too."""
    pages = tables.client.get_paginator("query").paginate(
        TableName=tables.connections,
        IndexName=USER_INDEX,
        KeyConditionExpression="userId = :user",
        ExpressionAttributeValues={":user": {"S": user_id}},
        PaginationConfig=page_config(page_size),
    )
    for page in pages:
        yield from (item["connectionId"]["S"] for item in page["Items"])
