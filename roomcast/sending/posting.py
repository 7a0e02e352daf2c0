"""Posts one envelope to its receivers: retries those that may not be open yet, prunes those that are gone."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from roomcast import aws
from roomcast.aws_client import waiting
from roomcast.connection import Receiver
from roomcast.errors import AwsError
from roomcast.management_api.client import AFTER_READING, ManagementApi
from roomcast.management_api.report import PostReport
from roomcast.plain_text import plain
from roomcast.store import Store
from roomcast.store.dynamodb import side_by_side

BUDGET = 10.0
"""Seconds for one send from a backend, retries included."""
_WAITS = (0.2, 0.4, 0.8)  # s; between the tries at a connection that may not be open yet
_PRUNE_SECONDS = 2.0  # so long a send waits for DynamoDB to forget those that are gone
_ALL_GONE = 10  # receivers; if that many are gone and nobody is there, the URL is of another stage
_LOG = logging.getLogger(__name__)


def post(
    management_api: ManagementApi,
    store: Store,
    pages: Iterable[Iterable[Receiver]],
    body: bytes,
    *,
    room: str | None = None,
    clock: Callable[[], float] = time.time,
    budget: float = BUDGET,
    rate: float | None = None,
    retries_unknown: bool = False,
    again: bool = False,
    waits_for_slow: bool = True,
) -> PostReport:
    """Post to the receivers; prune those that are gone.

    A 410 from a connection that may still be opening is retried for up to 1.4 s. Such a connection is never
    pruned. What cannot be pruned within 2 s, the next send finds again: that never fails a send.

    Args:
        management_api: where to post.
        store: where to prune.
        pages: the receivers, page by page; a page is posted while the next one is read.
        body: the envelope, encoded.
        room: the room that was sent to, if any.
        clock: epoch seconds.
        budget: seconds for everything together, reading, retries and prunes included; after the last page at
            least 1 s.
        rate: posts a second at most.
        retries_unknown: whether a receiver whose answer was lost gets the message once more. It drops the
            repeat.
        again: as in `ManagementApi.post`.
        waits_for_slow: likewise.
    """
    deadline = time.monotonic() + budget
    receivers: dict[str, Receiver] = {}

    def ids() -> Iterator[list[str]]:
        nonlocal deadline
        for page in pages:
            read = {receiver.connection_id: receiver for receiver in page}
            receivers.update(read)
            yield list(read)
        deadline = max(deadline, time.monotonic() + AFTER_READING)

    report = management_api.post_pages(
        ids(), body, budget=budget, rate=rate, again=again, waits_for_slow=waits_for_slow
    )
    left = deadline - time.monotonic()
    if retries_unknown and report.unknown and left > 0:
        doubtful = list(report.unknown)
        later = management_api.post(doubtful, body, budget=left, rate=rate)
        # What the retry did not bring may have come the first time.
        later.unknown, later.failed = later.unknown + later.failed, []
        report.replace(doubtful, later)
    retry_unopened(
        report,
        receivers,
        lambda ids, left: management_api.post(ids, body, budget=left, rate=rate),
        clock=clock,
        deadline=deadline,
    )
    now = clock()
    gone = [receivers[i] for i in report.gone if not receivers[i].young(now)]
    unsure = len(gone) >= _ALL_GONE and len(gone) == len(receivers) and not management_api.has_sent
    if unsure:
        _LOG.error(
            "all %d receivers are gone at %s, where no post has succeeded yet: is it this stage's URL? "
            "The connections are kept, and only members without one are pruned",
            len(gone),
            management_api.url,
        )
    if gone:
        _prune(store, gone, [room] if room else [], deadline, only_orphans=unsure)
    return report


def retry_unopened(
    report: PostReport,
    receivers: Mapping[str, Receiver],
    again: Callable[[Iterable[str], float], PostReport],
    *,
    clock: Callable[[], float],
    deadline: float,
    waits: Iterable[float] = _WAITS,
) -> None:
    """Repeat a call for the receivers that it has found gone and that may not be open yet.

    Args:
        report: of the call; what the repetitions say goes into it.
        receivers: by connection id.
        again: the call, with ids and the seconds that are left.
        clock: epoch seconds.
        deadline: seconds of `time.monotonic` at which to end.
        waits: seconds before each repetition.
    """
    for wait in waits:
        young = {i for i in report.gone if receivers[i].young(clock())}
        left = deadline - time.monotonic() - wait
        if not young or left <= 0:
            return
        waiting.sleep(wait)
        report.replace(young, again(young, left))


def _prune(
    store: Store, gone: list[Receiver], rooms: list[str], deadline: float, *, only_orphans: bool
) -> None:
    """Forget those that are gone; of `only_orphans`, members whose connection is not kept."""
    pruned = []

    def prune(receiver: Receiver) -> None:
        if aws.seconds_left() > 0:
            store.connections.prune(receiver, rooms)
            pruned.append(receiver)

    with aws.within(min(_PRUNE_SECONDS, deadline - time.monotonic())):
        try:
            kept = store.receivers.still(gone, None) if only_orphans else {}
        except AwsError as error:
            failures: list[Exception] = [error]
        else:
            gone = [receiver for receiver in gone if receiver.connection_id not in kept]
            failures = side_by_side(prune, gone)
    if len(pruned) < len(gone):
        why = plain(failures[0]) if failures else "out of time"
        _LOG.warning("%d of %d that are gone are not pruned yet: %s", len(gone) - len(pruned), len(gone), why)
