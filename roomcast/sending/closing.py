"""Ends the connections of a user: what is kept of them first, then the connections themselves."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from roomcast import aws
from roomcast.errors import ManagementApiError
from roomcast.management_api.client import ManagementApi
from roomcast.sending.posting import BUDGET, retry_unopened
from roomcast.store import Store
from roomcast.store.dynamodb import side_by_side

_WAITS = (0.2, 0.4, 0.8, 1.6, 3.2)  # s; between the tries to close what may not be open yet


@dataclass(frozen=True, slots=True)
class CloseReport:
    """What became of a user's connections.

    Attributes:
        found: how many the index showed.
        closed: how many were closed; the others were closed already.
        failures: what went wrong, of DynamoDB and of the management API.
    """

    found: int
    closed: int
    failures: list[Exception]


def end_connections(
    store: Store, management_api: ManagementApi, user_id: str, *, clock: Callable[[], float]
) -> CloseReport:
    """End all connections of a user that the index shows. What fails stops nothing else.

    First every item becomes a tombstone: from then on these connections get no event, and their next message
    closes them. Then all are closed at once. One that is not open yet is tried again for up to 6 s.

    Args:
        store: where they are kept.
        management_api: where they are closed.
        user_id: whose.
        clock: epoch seconds.
    """
    deadline = time.monotonic() + BUDGET
    with aws.within(aws.PATIENCE):
        found = store.receivers.of_user(user_id, expired=True)
        receivers = {receiver.connection_id: receiver for receiver in found}
        failures = side_by_side(lambda i: store.connections.disconnect(i, accepted_at=0), receivers)
    try:
        report = management_api.delete(receivers, budget=BUDGET)
        retry_unopened(
            report,
            receivers,
            lambda ids, left: management_api.delete(ids, budget=left),
            clock=clock,
            deadline=deadline,
            waits=_WAITS,
        )
    except ManagementApiError as error:  # nothing to sign with
        return CloseReport(len(receivers), 0, [*failures, error])
    if report.failures:
        why = ", ".join(f"{reason}: {count}" for reason, count in report.reasons.most_common())
        problem = f"{len(report.failures)} of {len(receivers)} connections could not be closed ({why})"
        status = next(iter(report.failures.values())).status
        failures.append(ManagementApiError(management_api.url, problem, status))
    return CloseReport(len(receivers), len(report.sent), failures)
