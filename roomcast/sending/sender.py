"""One send from a backend: numbered, posted from here or put on the queue."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from roomcast import aws, envelope, names
from roomcast.connection import Receiver
from roomcast.management_api.client import ManagementApi
from roomcast.sending.audience import Audience
from roomcast.sending.job import PostJob, SendJob, SendLimits, SliceJob
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.numbering import number
from roomcast.sending.posting import BUDGET, post
from roomcast.store import Store


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
        seq: the message's number in the room's stream; None where the room keeps no history.
    """

    id: str
    sent: int = 0
    gone: int = 0
    failed: int = 0
    unknown: int = 0
    queued: bool = False
    seq: int | None = None


class Sender:
    """Sends of a backend.

    Args:
        store: the tables.
        management_api: posts to connections.
        job_queue: for sends to many, where there is one.
        limits: from how many receivers on a send goes over the queue.
        clock: epoch seconds.
    """

    def __init__(
        self,
        store: Store,
        management_api: ManagementApi,
        job_queue: JobQueue | None,
        limits: SendLimits,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._management_api = management_api
        self._job_queue = job_queue
        self._limits = limits
        self._clock = clock

    def send(self, to: Audience, event: str, data: object, id_: str | None) -> SendReport:
        """Send to a room, a user or everybody. A new id where none is given."""
        began = time.monotonic()
        once = id_ is not None
        id_ = envelope.new_id() if id_ is None else names.send_id(id_)
        text, seq = number(self._store, to, event, data, id_, now=self._clock(), once=once)
        queue, limits = self._job_queue, self._limits
        room = to.target.name if to.target else None
        if queue is None:
            pages: Iterable[Iterable[Receiver]] = _in_time(to.pages(self._store))
            return replace(self._post(id_, text, pages, began, room), seq=seq)
        # All are read before the first post: how many they are decides which way the send goes.
        receivers: dict[str, Receiver] = {}
        with aws.within(aws.PATIENCE):
            read_at = self._clock()
            for page in to.pages(self._store, page_size=limits.split + 1):
                receivers.update((receiver.connection_id, receiver) for receiver in page)
                if len(receivers) > limits.split:
                    # What has a number goes as it is: the worker would have to look for it again.
                    parts = to.slices(self._store) if seq is not None else ()
                    jobs = [SliceJob(id_, room, text, part) for part in parts]
                    queue.put(jobs or [SendJob(to, event, data, id_)])
                    return SendReport(id_, queued=True, seq=seq)
            if len(receivers) > limits.direct:
                size = limits.job_receivers
                queue.put(PostJob.split(id_, room, text, receivers.values(), size, read_at))
                return SendReport(id_, queued=True, seq=seq)
        return replace(self._post(id_, text, [receivers.values()], began, room), seq=seq)

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
            budget=max(1.0, BUDGET - (time.monotonic() - began)),
            retries_unknown=True,
        )
        return SendReport(id_, len(report.sent), len(report.gone), len(report.failed), len(report.unknown))


def _in_time(pages: Iterable[Iterable[Receiver]]) -> Iterator[Iterable[Receiver]]:
    """The pages, all of them read within `aws.PATIENCE`."""
    ends, reading = time.monotonic() + aws.PATIENCE, iter(pages)
    while True:
        with aws.within(ends - time.monotonic()):
            page = next(reading, None)
        if page is None:
            return
        yield page
