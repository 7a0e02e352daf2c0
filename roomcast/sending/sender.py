"""One send: numbered, posted from here or put on the queue."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from roomcast import aws, envelope, names
from roomcast.connection import Receiver
from roomcast.errors import AwsError
from roomcast.management_api.client import ManagementApi
from roomcast.rooms import Room
from roomcast.sending.audience import Audience
from roomcast.sending.coalescing import is_posted_now
from roomcast.sending.job import PostJob, SendJob, SendLimits, SliceJob
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.numbering import number
from roomcast.sending.posting import BUDGET, post
from roomcast.store import Store
from roomcast.store.replay import Head

FUNCTION_BUDGET = 2.5
"""Seconds for the posts of a function: with what it asks of DynamoDB it ends within its 10 s."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of one send. Each receiver is counted once.

    Attributes:
        id: the send's id, as the receivers get it in the envelope.
        sent: the gateway took the message (which is not a promise that the browser has it).
        gone: the connection was closed; what is kept of it is pruned, now or by a later send.
        failed: the gateway refused to the end: 429 or 5xx on every try, or 413.
        unknown: no answer came, so the message may have arrived or not.
        queued: whether the send was put on the fan-out queue, to be posted from there; then the counts are 0.
            Also where a job that is there posts it, or what replaces a last value within its window.
        seq: the message's number in the room's stream; None where the room keeps no history.
        epoch: which life of the stream that is; likewise.
    """

    id: str
    sent: int = 0
    gone: int = 0
    failed: int = 0
    unknown: int = 0
    queued: bool = False
    seq: int | None = None
    epoch: str | None = None


class Sender:
    """Sends of a backend, or of a function.

    Args:
        store: the tables.
        management_api: posts to connections.
        job_queue: for sends to many, where there is one.
        limits: from how many receivers on a send goes over the queue.
        clock: epoch seconds.
        budget: seconds for one send.
        hands_on: whether a receiver that is slow or refused for now goes into a job of the queue, where there
            is one, and holds up nobody: for a function, whose client waits.
    """

    def __init__(
        self,
        store: Store,
        management_api: ManagementApi,
        job_queue: JobQueue | None,
        limits: SendLimits,
        clock: Callable[[], float],
        *,
        budget: float = BUDGET,
        hands_on: bool = False,
    ) -> None:
        self._store = store
        self._management_api = management_api
        self._job_queue = job_queue
        self._limits = limits
        self._clock = clock
        self._budget = budget
        self._hands_on = hands_on and job_queue is not None

    def send(
        self,
        to: Audience,
        event: str,
        data: object,
        id_: str | None,
        sender: Mapping[str, object] | None = None,
    ) -> SendReport:
        """Send to a room, a user or everybody. A new id where none is given; `sender` is who publishes it, if
        it is a client."""
        began = time.monotonic()
        once = id_ is not None
        id_ = envelope.new_id() if id_ is None else names.send_id(id_)
        seen: list[Head] = []
        text, at = number(
            self._store, to, event, data, id_, now=self._clock(), once=once, sender=sender, seen=seen.append
        )
        seq, epoch = (at.seq, at.epoch) if at else (None, None)
        queue, limits = self._job_queue, self._limits
        room = to.partition
        if not is_posted_now(self._store, queue, to.target, seen[-1] if seen else None, self._clock):
            return SendReport(id_, queued=True, seq=seq, epoch=epoch)
        if queue is None:
            pages: Iterable[Iterable[Receiver]] = _in_time(to.pages(self._store))
            report = self._post(id_, text, pages, began, room)
            self._found(to, report.sent + report.gone + report.failed + report.unknown)
            return replace(report, seq=seq, epoch=epoch)
        # All are read before the first post: how many they are decides which way the send goes.
        receivers: dict[str, Receiver] = {}
        with aws.within(aws.PATIENCE):
            read_at = self._clock()
            for page in to.pages(self._store, page_size=limits.split + 1):
                receivers.update((receiver.connection_id, receiver) for receiver in page)
                if len(receivers) > limits.split:
                    # What has a number goes as it is: the worker would have to look for it again. So does
                    # what a client has published: a job of a backend names no sender.
                    parts = to.slices(self._store) if at or sender else ()
                    jobs = [SliceJob(id_, room, text, part) for part in parts]
                    queue.put(jobs or [SendJob(to, event, data, id_)])
                    self._found(to, None)  # the worker counts
                    return SendReport(id_, queued=True, seq=seq, epoch=epoch)
            self._found(to, len(receivers))
            if len(receivers) > limits.direct:
                size = limits.job_receivers
                queue.put(PostJob.split(id_, room, text, receivers.values(), size, read_at))
                return SendReport(id_, queued=True, seq=seq, epoch=epoch)
        return replace(self._post(id_, text, [receivers.values()], began, room), seq=seq, epoch=epoch)

    def signal(self, room: Room, text: str, most: int, sender_id: str) -> int | None:
        """Post an envelope once to the members of a room but one. Whoever cannot take it now does not get it.

        Args:
            room: the room.
            text: the envelope.
            most: members at most.
            sender_id: the connection that does not get it.

        Returns:
            How many posts the gateway took; None where there are more members, and nothing was posted.
        """
        receivers = []
        for receiver in self._store.receivers.of_room(room, page_size=most + 2):
            receivers.append(receiver.connection_id)
            if len(receivers) > most:
                return None
        others = [i for i in receivers if i != sender_id]
        report = self._management_api.post(
            others, text.encode(), budget=self._budget, waits_for_slow=False, once=True
        )
        return len(report.sent)

    def to_admins(self, event: str, data: object, id_: str | None) -> SendReport:
        """Send to every connection of an admin."""
        began = time.monotonic()
        id_, text = self._envelope(event, data, id_)
        pages = self._store.receivers.pages_of_admins()
        if self._job_queue is None:
            return self._post(id_, text, _in_time(pages), began)
        with aws.within(aws.PATIENCE):
            read_at = self._clock()
            receivers = {receiver.connection_id: receiver for page in pages for receiver in page}
            if len(receivers) > self._limits.direct:
                size = self._limits.job_receivers
                self._job_queue.put(PostJob.split(id_, None, text, receivers.values(), size, read_at))
                return SendReport(id_, queued=True)
        return self._post(id_, text, [receivers.values()], began)

    def to_connection(self, connection_id: str, event: str, data: object, id_: str | None) -> SendReport:
        """Send to one connection."""
        began = time.monotonic()
        id_, text = self._envelope(event, data, id_)
        receiver = self._store.receivers.of_connection(connection_id)
        if receiver is None:
            return SendReport(id_, gone=1)
        return self._post(id_, text, [[receiver]], began)

    def _found(self, to: Audience, receivers: int | None) -> None:
        """Remember how many there are, for those who join."""
        if to.target is not None and to.target.history is not None and self._store.history is not None:
            self._store.history.found(to.target.name, receivers)

    def _envelope(self, event: str, data: object, id_: str | None) -> tuple[str, str]:
        """A send's id and its envelope; refuses before anything is read."""
        id_ = envelope.new_id() if id_ is None else names.send_id(id_)
        return id_, envelope.build(event, data, id=id_, now=self._clock())

    def _post(
        self,
        id_: str,
        text: str,
        pages: Iterable[Iterable[Receiver]],
        began: float,
        room: str | None = None,
    ) -> SendReport:
        report = post(
            self._management_api,
            self._store,
            pages,
            text.encode(),
            room=room,
            clock=self._clock,
            budget=max(1.0, self._budget - (time.monotonic() - began)),
            retries_unknown=True,
            waits_for_slow=not self._hands_on,
        )
        if self._hands_on and report.failed:
            receivers = {receiver.connection_id: receiver for page in pages for receiver in page}
            left = [
                i for i in report.failed if (why := report.failures[i]).worth_another_try or why.status == 429
            ]
            self._hand_on(PostJob(id_, room, text, tuple(receivers[i] for i in left), 1, self._clock()))
        return SendReport(id_, len(report.sent), len(report.gone), len(report.failed), len(report.unknown))

    def _hand_on(self, job: PostJob) -> None:
        """Let the worker try the receivers again. Where the queue does not take them, they have failed."""
        if job.receivers and self._job_queue is not None:
            try:
                self._job_queue.put([job], delay=1)
            except AwsError as error:
                _LOG.warning("not tried again id=%s receivers=%d: %s", job.id, len(job.receivers), error)


def _in_time(pages: Iterable[Iterable[Receiver]]) -> Iterator[Iterable[Receiver]]:
    """The pages, all of them read within `aws.PATIENCE`."""
    ends, reading = time.monotonic() + aws.PATIENCE, iter(pages)
    while True:
        with aws.within(ends - time.monotonic()):
            page = next(reading, None)
        if page is None:
            return
        yield page
