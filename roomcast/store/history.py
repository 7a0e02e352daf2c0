"""Streams: the numbered logs of rooms. What is appended, and in which order.

The history table: hash `stream`, range `seq`. Of each stream it holds

- one permanent *head* (`head#{stream}` / 0: `epoch`, `headSeq`, `members`, and what `store/windows.py`
  writes), under a hash of its own;
- one item for each message (`{stream}` / `seq`: `id`, `envelope`, `sentAt`, `ttl`);
- where a sender gives its own id, a *mark* (`id#{stream}#{id}` / 0: `epoch`, `markSeq`), by which a second
  send finds the first.

Numbers have no holes, and none is used twice:

- An append puts its item behind the head, on the condition that the number is free, and then moves the head.
  Only what the head has passed counts: nobody reads or posts what is behind it.
- Who finds the next number taken looks for the first that is free. What was put there a moment ago has a
  sender at work, and the head is moved past it together with the own message: each number between is taken.
- Where that item is older, its sender has died between the two writes. Who finds it *helps*: moves the head
  and extends the item's life in one transaction, so that no number passes whose message is about to expire.
- The number is good for `STALE` seconds from the moment at which the head was known. A later put could meet a
  number whose item has come and gone. DynamoDB takes a signed request for 15 minutes, and an item lives
  `MARGIN` longer than its retention: so a sender that stalled cannot use a number again.

DynamoDB deletes expired items whenever it likes, so readers apply the retention themselves.
"""

import itertools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from roomcast import aws, metrics
from roomcast.aws_client import waiting
from roomcast.errors import StalledError
from roomcast.rooms import Retention
from roomcast.store.dynamodb import ConditionFailedError, Tables
from roomcast.store.items import number
from roomcast.store.replay import Head, Position, Replay, head_key, new_epoch, to_head

STALE = 60.0
"""Seconds after learning where the head is, in which every step of an append happens."""
MARGIN = 3600
"""Seconds that an item outlives its retention: more than `STALE` and the 15 minutes for which DynamoDB takes
a signed request."""
_FRESH = 10  # s; what was put behind the head so lately has a sender that is probably alive
_PAUSE = 0.03  # s at most, after a number was lost to somebody else; a few round trips
_REMEMBERED = 1_000  # streams whose head a process remembers


class _Tail(NamedTuple):
    """The end of a stream, as far as a process knows.

    Attributes:
        head: where it was.
        learned: the clock before that was known.
        free: the first number that may be free; those from the head to there are taken.
        crowded: whether others send too, so that what they have put is looked for first.
    """

    head: Position
    learned: float
    free: int
    crowded: bool = False


class History(Replay):
    """The history table: what is appended, and what is read of it.

    Args:
        tables: for the client and the clock.
        name: the history table's.
        stale: seconds after learning where the head is, in which every step of an append happens.
        margin: seconds that an item outlives its retention.
    """

    def __init__(self, tables: Tables, name: str, *, stale: float = STALE, margin: int = MARGIN) -> None:
        super().__init__(tables, name)
        self._stale = stale
        self._margin = margin
        self._known: dict[str, _Tail] = {}
        self._members: dict[str, int] = {}

    def append(
        self,
        stream: str,
        message_id: str,
        build: Callable[[Position], str],
        retention: Retention,
        *,
        once: bool = False,
        seen: Callable[[Head], None] = lambda _: None,
    ) -> Position:
        """Give a message the next number. Two write units for each KB in the usual case.

        Args:
            stream: the room's name.
            message_id: the send's id.
            build: makes the envelope for a position.
            retention: how long the message is kept.
            once: whether an earlier append of the same id within the retention is found and its position
                returned; costs two more write units for each KB.
            seen: called with the head as it is when the message counts, or later.

        Returns:
            Where it is. The head has passed it.

        Raises:
            StalledError: the process was stalled; whether the message counts is not known.
        """
        began = self._tables.clock()
        tail, losses = self._recall(stream, began), 0
        while True:
            if tail is None:
                asked = self._tables.clock()
                head = self.position(stream)
                tail = _Tail(head, asked, head.seq + 1)
            self._check_time(stream, min(began, tail.learned))
            if tail.crowded:
                tail = self._walk(stream, tail, retention)
                if tail is None:
                    continue
            mine = Position(tail.head.epoch, tail.free)
            taken = self._put(stream, mine, message_id, build(mine), retention, once=once)
            self._check_time(stream, min(began, tail.learned))
            if isinstance(taken, Position):  # sent before
                there = self._pass(stream, taken, retention)
                if there is not None:
                    seen(there)
                    return taken
                tail = None
            elif taken is None or taken == message_id:
                asked = self._tables.clock()
                there = self._move(stream, tail.head, mine)
                now_at = there.position
                if _has_passed(now_at, mine):
                    crowded = bool(losses or now_at != mine)
                    self._remember(stream, _Tail(now_at, asked, now_at.seq + 1, crowded))
                    metrics.emit({"Appends": 1, "Conflicts": losses})
                    seen(there)
                    return mine
                tail = None  # another life of the stream has begun, where this message is not
            else:
                losses += 1
                waiting.sleep(random.uniform(0, _PAUSE))  # noqa: S311  spreads load, guards nothing
                tail = tail._replace(crowded=True)

    def found(self, stream: str, members: int | None) -> None:
        """Remember how many members a send has found; None: it has not counted them. The next append of this
        process writes it, with the head that it moves anyway."""
        self._members.pop(stream, None)
        if members is not None:
            self._members[stream] = members
            _forget_oldest(self._members)

    def note(self, stream: str, members: int) -> None:
        """Write how many members there are, if it is far from what this process has written last."""
        if 0.75 * members < self._members.get(stream, 0) < 1.25 * members:
            return
        self._tables.write(
            self._tables.client.update_item,
            TableName=self._name,
            Key=head_key(stream),
            UpdateExpression="SET members = :members",
            ConditionExpression="attribute_exists(epoch)",
            ExpressionAttributeValues={":members": number(members)},
        )
        self.found(stream, members)

    def new_epoch(self, stream: str) -> Position:
        """Begin another life of a stream, for a table that was restored: every client learns of a gap.

        The numbers go on a million further, where no message of the earlier life is.
        """
        self._known.pop(stream, None)
        head = self.position(stream)
        new = Position(new_epoch(), head.seq + 1_000_000)
        try:
            self._tables.write(
                self._tables.client.update_item,
                TableName=self._name,
                Key=head_key(stream),
                UpdateExpression="SET epoch = :epoch, headSeq = :seq",
                ConditionExpression="epoch = :old",
                ExpressionAttributeValues={
                    ":epoch": {"S": new.epoch},
                    ":seq": number(new.seq),
                    ":old": {"S": head.epoch},
                },
            )
        except ConditionFailedError:  # done before an answer was lost, or by somebody else
            return self.position(stream)
        return new

    # Steps

    def _walk(self, stream: str, tail: "_Tail", retention: Retention) -> "_Tail | None":
        """Find the first free number behind the head, by one Query of what was put there. None: the head is
        not where it was thought to be.

        What was put a moment ago is left to its sender, or to whoever moves the head past it. What is older
        has a dead sender, and may be about to expire: it is helped.
        """
        now, free = self._tables.clock(), tail.free
        pages = self._tables.pages(
            self._tables.client.query,
            TableName=self._name,
            KeyConditionExpression="#stream = :stream AND seq >= :first",
            ExpressionAttributeNames={"#stream": "stream"},
            ExpressionAttributeValues={":stream": {"S": stream}, ":first": number(free)},
            ProjectionExpression="seq, sentAt",
            ConsistentRead=True,
        )
        for item in itertools.chain.from_iterable(page["Items"] for page in pages):
            at = Position(tail.head.epoch, free)
            if int(item["seq"]["N"]) != free:
                break
            if abs(now - int(item["sentAt"]["N"])) > _FRESH:
                if not self._help(stream, tail.head, at, retention):
                    return None
                tail = tail._replace(head=at)
            free += 1
        return _Tail(tail.head, tail.learned, free)

    def _check_time(self, stream: str, since: float) -> None:
        """A number that was learnt too long ago may have been used, and its message be gone."""
        if self._tables.clock() - since > self._stale:
            raise StalledError(stream)

    def _put(
        self, stream: str, at: Position, message_id: str, text: str, retention: Retention, *, once: bool
    ) -> str | Position | None:
        """Put an item behind the head. None: done. Otherwise the id of the item that is there, or the place
        at which this id was sent before."""
        now = self._tables.clock()
        ttl = number(now + retention.seconds + self._margin)
        put: dict[str, Any] = {
            "TableName": self._name,
            "Item": {
                "stream": {"S": stream},
                "seq": number(at.seq),
                "id": {"S": message_id},
                "envelope": {"S": text},
                "sentAt": number(now),
                "ttl": ttl,
            },
            # What has expired may stay for days. Nobody has seen it: it is behind the head.
            "ConditionExpression": "attribute_not_exists(id) OR #ttl < :now",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {":now": number(now)},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            if once:
                place = {"epoch": {"S": at.epoch}, "markSeq": number(at.seq), "ttl": ttl}
                mark = {**mark_key(stream, message_id), **place}
                condition = {
                    # A message of an earlier life is not in this one. Numbers grow from life to life.
                    "ConditionExpression": "attribute_not_exists(markSeq) OR #ttl < :now"
                    " OR (epoch <> :epoch AND markSeq < :seq)",
                    "ExpressionAttributeNames": {"#ttl": "ttl"},
                    "ExpressionAttributeValues": {
                        ":now": number(now),
                        ":epoch": place["epoch"],
                        ":seq": place["markSeq"],
                    },
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
                self._tables.transact(
                    {"Put": {"TableName": self._name, "Item": mark, **condition}}, {"Put": put}
                )
            else:
                self._tables.write(self._tables.client.put_item, **put)
        except ConditionFailedError as error:
            if "markSeq" in error.item:
                return Position(error.item["epoch"]["S"], int(error.item["markSeq"]["N"]))
            return str(error.item["id"]["S"])
        return None

    def _move(self, stream: str, head: Position, to: Position) -> Head:
        """Move the head past numbers that are all taken. Return it as it is then: somebody else may have
        moved it, or begun another epoch."""
        try:
            answer = self._tables.write(
                self._tables.client.update_item,
                **self._moved(stream, head, to),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailedError as error:
            return to_head(error.item) if error.item else Head(Position("", 0))  # a table made anew
        return to_head(answer["Attributes"])

    def _moved(self, stream: str, head: Position, to: Position) -> dict[str, Any]:
        members = self._members.get(stream)
        noted = {} if members is None else {":members": number(members)}
        return {
            "TableName": self._name,
            "Key": head_key(stream),
            "UpdateExpression": "SET headSeq = :to" + ", members = :members" * len(noted),
            "ConditionExpression": "epoch = :epoch AND headSeq BETWEEN :from AND :last",
            "ExpressionAttributeValues": {
                ":epoch": {"S": to.epoch},
                ":from": number(head.seq),
                ":last": number(to.seq - 1),
                ":to": number(to.seq),
                **noted,
            },
        }

    def _help(self, stream: str, head: Position, to: Position, retention: Retention) -> bool:
        """Move the head past an item of somebody else, and those before it. False: it is there already, or
        the item is gone.

        The message's retention begins now: clients that were here a moment ago have not seen it.
        """
        now = self._tables.clock()
        live: dict[str, Any] = {
            "TableName": self._name,
            "Key": {"stream": {"S": stream}, "seq": number(to.seq)},
            "UpdateExpression": "SET #ttl = :ttl, sentAt = :now",
            "ConditionExpression": "attribute_exists(id)",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {
                ":ttl": number(now + retention.seconds + self._margin),
                ":now": number(now),
            },
        }
        try:
            self._tables.transact({"Update": self._moved(stream, head, to)}, {"Update": live})
        except ConditionFailedError:
            return False
        return True

    def _pass(self, stream: str, at: Position, retention: Retention) -> Head | None:
        """See that the head has passed an item that is there. Return it; None: another epoch has begun."""
        for _ in aws.attempts():
            there = self.head(stream)
            head = there.position
            if head.epoch != at.epoch or head.seq >= at.seq:
                return there if head.epoch == at.epoch else None
            while head.seq < at.seq:
                following = Position(head.epoch, head.seq + 1)
                if not self._help(stream, head, following, retention):
                    break
                head = following
        raise StalledError(stream)

    def _recall(self, stream: str, now: float) -> "_Tail | None":
        tail = self._known.pop(stream, None)
        return tail if tail is not None and now - tail.learned <= self._stale / 2 else None

    def _remember(self, stream: str, tail: "_Tail") -> None:
        self._known[stream] = tail
        _forget_oldest(self._known)


def _forget_oldest(known: dict[str, Any]) -> None:
    while len(known) > _REMEMBERED:
        del known[next(iter(known))]


def _has_passed(head: Position, at: Position) -> bool:
    return head.epoch == at.epoch and head.seq >= at.seq


def mark_key(stream: str, message_id: str) -> dict[str, Any]:
    """The key of the mark of a send with a given id."""
    return {"stream": {"S": f"id#{stream}#{message_id}"}, "seq": number(0)}
