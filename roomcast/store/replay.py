"""Reads of the history table (its rows: `store/history.py`): where a stream is, and what a position missed.

What the head has passed never changes, so a process keeps what it has read for a minute: when a whole room
comes back at once, each warm function reads the pages that all have missed once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from roomcast import aws
from roomcast.rooms import Retention
from roomcast.store.dynamodb import ConditionFailedError, Tables, left_over
from roomcast.store.items import Grant, number
from roomcast.values import Value

KEPT_SECONDS = 60.0
"""For so long a process answers from what it has read."""
_KEPT_BYTES = 8 * 1024 * 1024
_PAGE = 100  # items that one Query reads


class Position(Value):
    """A place in a stream. The two change together.

    Attributes:
        epoch: identifies one life of the stream.
        seq: the number of a message; 0 is before the first.
    """

    epoch: str
    seq: int

    def __init__(self, epoch: str, seq: int) -> None:
        vars(self).update(epoch=epoch, seq=seq)


class Head(NamedTuple):
    """What the head of a stream says.

    Attributes:
        position: where the stream is.
        members: about how many the room has, as a send has found lately; 0 where no send has said so.
        held_until: the end of a last value's window in epoch milliseconds (`store/windows.py`); 0: none yet.
        turn: likewise, how often a job has posted the newest.
        job_for: likewise, the turn for which a job is on the queue.
    """

    position: Position
    members: int = 0
    held_until: int = 0
    turn: int = 0
    job_for: int | None = None


class Message(Value):
    """One message of a stream.

    Attributes:
        seq: its number.
        id: the send's.
        envelope: as it was posted.
        sent_at: epoch seconds by the sender's clock.
    """

    seq: int
    id: str
    envelope: str
    sent_at: int

    def __init__(self, seq: int, id: str, envelope: str, sent_at: int = 0) -> None:  # noqa: A002  as on the wire
        vars(self).update(seq=seq, id=id, envelope=envelope, sent_at=sent_at)


class Recovery(Value):
    """What a join learns.

    Attributes:
        position: of the stream now.
        recovered: whether `messages` is everything after the position that was given.
        messages: in order; empty where it is not all.
        more: whether there is another page: after the last message, or before the first where messages before
            a position were asked for.
    """

    position: Position
    recovered: bool
    messages: tuple[Message, ...]
    more: bool

    def __init__(
        self,
        position: Position,
        recovered: bool,
        messages: tuple[Message, ...] = (),
        more: bool = False,
    ) -> None:
        vars(self).update(position=position, recovered=recovered, messages=messages, more=more)

    def allowed_by(self, grant: Grant | None, since: Position | None) -> "Recovery":
        """What of it may be shown to a user whose right to the room began with this grant.

        Args:
            grant: None where the room needs none.
            since: the position after which messages were asked for; None where they were asked for backwards.
        """
        if grant is None:
            return self
        if grant.seq is not None and grant.epoch == self.position.epoch:
            early = {message.seq for message in self.messages if message.seq <= grant.seq}
            hidden = since is not None and since != self.position and since.seq < grant.seq
        else:  # a grant from before there were histories, or of another life of the stream
            early = {message.seq for message in self.messages if message.sent_at < grant.at}
            hidden = since is not None and bool(early)
        if hidden:
            return Recovery(self.position, recovered=False)
        if not early:
            return self
        kept = tuple(message for message in self.messages if message.seq not in early)
        return self._replace(messages=kept, more=False)


class Replay:
    """What is read of the history table.

    Args:
        tables: for the client and the clock.
        name: the history table's.
    """

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables = tables
        self._name = name
        self._kept: dict[tuple[str, str, int], tuple[Message, float]] = {}  # and until when
        self._kept_bytes = 0

    def position(self, stream: str) -> Position:
        """Where a stream is now: one consistent read. A stream that nobody has asked for before begins."""
        return self.head(stream).position

    def head(self, stream: str) -> Head:
        """The same with all that the head says."""
        key = head_key(stream)
        item = aws.call(self._tables.client.get_item, TableName=self._name, Key=key, ConsistentRead=True).get(
            "Item"
        )
        if item is not None:
            return to_head(item)
        new: dict[str, Any] = {**key, "epoch": {"S": new_epoch()}, "headSeq": number(0)}
        try:
            self._tables.write(
                self._tables.client.put_item,
                TableName=self._name,
                Item=new,
                ConditionExpression="attribute_not_exists(epoch)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailedError as error:
            return to_head(error.item)
        return to_head(new)

    def heads(self, streams: Iterable[str]) -> dict[str, Head]:
        """The heads of up to 100 streams: one consistent BatchGetItem, and a write for each that begins."""
        names = list(dict.fromkeys(streams))
        found: dict[str, Head] = {}
        wanted: Any = {self._name: {"Keys": [head_key(name) for name in names], "ConsistentRead": True}}
        for _ in aws.attempts() if names else ():
            answer = aws.call(self._tables.client.batch_get_item, RequestItems=wanted)
            for item in answer["Responses"].get(self._name, []):
                found[item["stream"]["S"].removeprefix(HEAD)] = to_head(item)
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                break
        else:
            if names:
                raise left_over("BatchGetItem")
        return {name: found.get(name) or self.head(name) for name in names}

    def recover(
        self,
        stream: str,
        since: Position | None,
        retention: Retention,
        *,
        limit: int = 1_000,
        size: int | None = None,
        head: Position | None = None,
    ) -> Recovery:
        """Read what came after a position. One read unit where nothing did.

        The caller must be a member already: what is appended after this read is posted to it.

        Args:
            stream: the room's name.
            since: the last position that the client knows; None where it knows none.
            retention: the stream's.
            limit: messages at most; with more, `Recovery.more` is set.
            size: bytes at most that the messages have together. The first one always comes.
            head: where the stream is, if it was read after the client became a member.

        Returns:
            All or nothing: `recovered` only if every message between is still there. Of a last value, the
            newest message if the client does not have it.
        """
        head = head or self.position(stream)
        if since == head:
            return Recovery(head, recovered=True)
        if retention.messages == 1:
            newest = tuple(self._read(stream, head, head.seq, head.seq, retention, None)) if head.seq else ()
            return Recovery(head, recovered=since is not None and bool(newest), messages=newest)
        if since is None:
            return Recovery(head, recovered=False)
        missed = head.seq - since.seq
        if since.epoch != head.epoch or not 0 < missed <= retention.messages:
            return Recovery(head, recovered=False)
        upto = min(head.seq, since.seq + limit)
        found = list(self._read(stream, head, since.seq + 1, upto, retention, size))
        if not found or (found[-1].seq < upto and not _is_full(found, size)):
            return Recovery(head, recovered=False)
        page = _fit(found, size)
        return Recovery(head, recovered=True, messages=page, more=page[-1].seq < head.seq)

    def before(
        self,
        stream: str,
        before: Position | None,
        retention: Retention,
        *,
        limit: int = 100,
        size: int | None = None,
    ) -> Recovery:
        """Read the messages before a position, the newest ones: to show what was said.

        Args:
            stream: the room's name.
            before: None: from the newest message on.
            retention: the stream's.
            limit: messages at most.
            size: bytes at most that the messages have together. The newest one always comes.

        Returns:
            In order, without a hole. `recovered` is False only if the position is not one of this stream.
        """
        head = self.position(stream)
        if before is not None and (before.epoch != head.epoch or before.seq > head.seq + 1):
            return Recovery(head, recovered=False)
        last = head.seq if before is None else before.seq - 1
        oldest = max(1, head.seq - retention.messages + 1)
        first = max(oldest, last - limit + 1)
        found = {m.seq: m for m in self._read(stream, head, first, last, retention, None, holes=True)}
        run: list[Message] = []
        while last - len(run) in found:
            run.append(found[last - len(run)])
        page = _fit(run, size)
        more = bool(page) and page[-1].seq > oldest and (len(page) < len(run) or len(run) == limit)
        return Recovery(head, recovered=True, messages=page[::-1], more=more)

    def _read(
        self,
        stream: str,
        head: Position,
        first: int,
        last: int,
        retention: Retention,
        size: int | None,
        *,
        holes: bool = False,
    ) -> Iterator[Message]:
        """The messages of a range that the head has passed: up to the first hole, or to a size."""
        now = self._tables.clock()
        following, total = first, 0
        for message in self._messages(stream, head.epoch, first, last):
            old = message.sent_at < int(now - retention.seconds)
            if (old or message.seq != following) and not holes:
                return
            following = message.seq + 1
            if not old:
                yield message
            total += len(message.envelope)
            if size is not None and total > size:
                return

    def _messages(self, stream: str, epoch: str, first: int, last: int) -> Iterator[Message]:
        now = self._tables.clock()
        while first <= last:
            message, until = self._kept.get((stream, epoch, first), (None, 0.0))
            if message is None or until <= now:
                break
            yield message
            first += 1
        if first > last:
            return
        pages = self._tables.pages(
            self._tables.client.query,
            TableName=self._name,
            KeyConditionExpression="#stream = :stream AND seq BETWEEN :first AND :last",
            ExpressionAttributeNames={"#stream": "stream"},  # DynamoDB keeps the word for itself
            ExpressionAttributeValues={
                ":stream": {"S": stream},
                ":first": number(first),
                ":last": number(last),
            },
            ConsistentRead=True,
            Limit=_PAGE,
        )
        for page in pages:
            for item in page["Items"]:
                message = Message(
                    int(item["seq"]["N"]),
                    item["id"]["S"],
                    item["envelope"]["S"],
                    int(item["sentAt"]["N"]),
                )
                self._keep((stream, epoch, message.seq), message, now + KEPT_SECONDS)
                yield message
            if page["Items"] and int(page["Items"][-1]["seq"]["N"]) == last:
                return

    def _keep(self, key: tuple[str, str, int], message: Message, until: float) -> None:
        before = self._kept.pop(key, None)
        self._kept[key] = (message, until)
        self._kept_bytes += len(message.envelope) - (len(before[0].envelope) if before else 0)
        while self._kept_bytes > _KEPT_BYTES:
            oldest, _ = self._kept.pop(next(iter(self._kept)))
            self._kept_bytes -= len(oldest.envelope)


HEAD = "head#"
"""What the hash of a stream's head begins with."""


def head_key(stream: str) -> dict[str, Any]:
    """The key of a stream's head."""
    return {"stream": {"S": HEAD + stream}, "seq": number(0)}


def new_epoch() -> str:
    """A name for a life of a stream."""
    import secrets  # rarely: only where a stream begins

    return secrets.token_urlsafe(6)


def to_head(item: Mapping[str, Any]) -> Head:
    """Read a head."""
    position = Position(item["epoch"]["S"], int(item["headSeq"]["N"]))
    members, held_until, turn = (
        int(item[k]["N"]) if k in item else 0 for k in ("members", "heldUntil", "turn")
    )
    return Head(position, members, held_until, turn, int(item["jobFor"]["N"]) if "jobFor" in item else None)


def _bytes(message: Message) -> int:
    return len(message.envelope.encode()) + 1  # and a comma


def _is_full(messages: list[Message], size: int | None) -> bool:
    return size is not None and sum(map(_bytes, messages)) > size


def _fit(messages: list[Message], size: int | None) -> tuple[Message, ...]:
    """The first of them that have the size together, and one in any case."""
    total = 0
    for count, message in enumerate(messages):
        total += _bytes(message)
        if size is not None and total > size and count:
            return tuple(messages[:count])
    return tuple(messages)
