"""Server events: what happens to users, put on a bus of EventBridge for other services. Imported only where a
stage has them on.

Each has a number of its user. What begins something (`connected`, `joined`) takes its number before it does
so, and what ends it (`disconnected`, `left`) when it is done: so the later number is the later state. What
was numbered and is missing may have happened. Nothing here ever fails what the user does.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from roomcast import aws, metrics
from roomcast.aws_client.failures import refused
from roomcast.envelope import timestamp
from roomcast.errors import AwsError
from roomcast.names import HookEvent
from roomcast.plain_text import plain
from roomcast.rooms import inbox
from roomcast.settings import ServerEventRules
from roomcast.store import Store

SECONDS = 1.0
"""In which a try may begin to number events, and as much again to put them on the bus. Then they are lost."""
_AT_ONCE = 10  # entries of one PutEvents (EventBridge's limit)

_LOG = logging.getLogger(__name__)

Facts = Mapping[str, object]
"""What an event says besides its stage, user, connection, time and number."""


class ServerEvents:
    """Numbers events and puts them on the bus.

    Args:
        client: a client for `events`, of `roomcast.aws` or botocore.
        rules: which events, and where to.
        store: for the numbers.
    """

    def __init__(self, client: Any, rules: ServerEventRules, store: Store) -> None:
        self._client = client
        self._rules = rules
        self._store = store

    @contextmanager
    def beginning(
        self, kind: HookEvent, user_id: str, connection_id: str, *, most: int
    ) -> Iterator[list[Facts]]:
        """Report what begins in this block.

        Args:
            kind: of the events.
            user_id: whose.
            connection_id: of which connection.
            most: how many there may be.

        Yields:
            An empty list. The facts that the block puts into it are the events; numbers that are left over
            are given back, unless AWS has failed: then nobody knows whether it has happened.
        """
        begun: list[Facts] = []
        last = self._take(kind, user_id, most)
        unknown = False
        try:
            yield begun
        except AwsError:
            unknown = True
            raise
        finally:
            if last is not None:
                if not unknown and len(begun) < most:
                    self._give_back(user_id, last, most - len(begun))
                self._put(kind, user_id, connection_id, begun, last - most + 1)

    def tell(self, kind: HookEvent, user_id: str, connection_id: str, facts: Facts) -> None:
        """Report something that has happened. The parameters are those of `beginning`."""
        last = self._take(kind, user_id, 1)
        if last is not None:
            self._put(kind, user_id, connection_id, [facts], last)

    def ended(
        self, user_id: str, rooms: list[str], connection_id: str, *, closed: bool, asked: str = ""
    ) -> None:
        """Report memberships that have ended, or the whole connection. See `Wiring.ended`."""
        if closed:
            own = inbox(user_id).name
            self.tell("disconnected", user_id, connection_id, {"rooms": sorted({*rooms} - {own})})
            return
        for room in rooms:
            self.tell("left", user_id, connection_id, {"room": room, "asked": asked})

    def _take(self, kind: HookEvent, user_id: str, count: int) -> int | None:
        """The last of these numbers; None where there is nothing to report."""
        if kind not in self._rules.kinds or count < 1:
            return None
        try:
            with _in_time():
                return self._store.event_numbers.take(user_id, count)
        except AwsError as error:
            _lost(kind, user_id, count, error)
            return None

    def _give_back(self, user_id: str, last: int, count: int) -> None:
        with suppress(AwsError), _in_time():  # then they are missing, and whoever follows looks for nothing
            self._store.event_numbers.give_back(user_id, last, count)

    def _put(
        self, kind: HookEvent, user_id: str, connection_id: str, events: list[Facts], first: int
    ) -> None:
        about = {
            "stage": self._rules.source.rpartition(".")[2],
            "userId": user_id,
            "connectionId": connection_id,
            "at": timestamp(self._store.tables.clock()),
        }
        entries = [
            {
                "Source": self._rules.source,
                "DetailType": kind,
                "Detail": _compact({**about, **facts, "seq": seq}),
                "EventBusName": self._rules.bus,
            }
            for seq, facts in enumerate(events, first)
        ]
        for begin in range(0, len(entries), _AT_ONCE):
            batch = entries[begin : begin + _AT_ONCE]
            for seq, error in enumerate(self._put_batch(batch), first + begin):
                if error is None:
                    _LOG.info("event %s userId=%s seq=%d", kind, user_id, seq)
                else:
                    _lost(kind, user_id, 1, error)

    def _put_batch(self, entries: list[dict[str, str]]) -> list[AwsError | None]:
        """Put entries on the bus, and those again that it does not take for now. Returns why it has not taken
        an entry, for each."""
        outcomes: list[AwsError | None] = [None] * len(entries)
        todo = list(range(len(entries)))
        try:
            with _in_time():
                for _ in aws.attempts():
                    answer = aws.call(self._client.put_events, Entries=[entries[i] for i in todo])
                    for i, result in zip(todo, answer["Entries"], strict=False):
                        outcomes[i] = _refusal(result)
                    todo = [i for i in todo if (error := outcomes[i]) and aws.is_retryable(error)]
                    if not todo:
                        break
        except AwsError as error:
            for i in todo:
                outcomes[i] = error
        return outcomes


def _compact(detail: Mapping[str, object]) -> str:
    """As JSON, without what is not known."""
    return json.dumps({key: value for key, value in detail.items() if value != ""}, separators=(",", ":"))


def _refusal(result: Mapping[str, str]) -> AwsError | None:
    """Why the bus has not taken one entry; None where it has."""
    if "ErrorCode" not in result:
        return None
    error = {"Code": result["ErrorCode"], "Message": result.get("ErrorMessage", "")}
    return refused({"Error": error}, "PutEvents")


@contextmanager
def _in_time() -> Iterator[None]:
    if aws.seconds_left() <= 0:
        raise AwsError("there is no time left")
    with aws.within(SECONDS):
        yield


def _lost(kind: HookEvent, user_id: str, count: int, error: AwsError) -> None:
    _LOG.warning("not reported event=%s userId=%s count=%d: %s", kind, user_id, count, plain(error))
    metrics.emit({"EventsLost": count})
