"""Posts one envelope to its receivers: retries those that may not be open yet, prunes those that are gone."""

import time
from collections.abc import Callable, Mapping

from roomcast.connection import Receiver
from roomcast.management_api.client import ManagementApi
from roomcast.management_api.report import PostReport
from roomcast.store import Store

BUDGET = 10.0
"""Seconds for all posts of one send, retries included."""
_NOT_OPEN_YET_WAITS = (0.2, 0.4, 0.8)  # s; between the tries at a connection that may not be open yet


def post(
    management_api: ManagementApi,
    store: Store,
    receivers: Mapping[str, Receiver],
    body: bytes,
    *,
    room: str | None = None,
    clock: Callable[[], float] = time.time,
    budget: float = BUDGET,
    rate: float | None = None,
) -> PostReport:
    """Post to the receivers; prune those that are gone.

    A 410 from a connection that may still be opening is retried for up to 1.4 s. Such a connection is never
    pruned.

    Args:
        management_api: where to post.
        store: where to prune.
        receivers: by connection id.
        body: the envelope, encoded.
        room: the room that was sent to, if any.
        clock: epoch seconds.
        budget: seconds for all posts together, retries included.
        rate: posts a second at most.
    """
    deadline = time.monotonic() + budget
    report = management_api.post(receivers, body, budget=budget, rate=rate)
    for wait in _NOT_OPEN_YET_WAITS:
        young = {i for i in report.gone if receivers[i].young(clock())}
        left = deadline - time.monotonic() - wait
        if not young or left <= 0:
            break
        time.sleep(wait)
        report.replace_gone(young, management_api.post(young, body, budget=left, rate=rate))
    now = clock()
    for connection_id in report.gone:
        if not receivers[connection_id].young(now):
            store.connections.prune(receivers[connection_id], [room] if room else [])
    return report
