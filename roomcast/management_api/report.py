"""What became of one call of the management API, receiver by receiver. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter


class Outcome(Enum):
    """What a receiver's post ended as."""

    SENT = "sent"
    GONE = "gone"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a receiver failed or is unknown.

    Attributes:
        what: the error's name as the management API gave it, or words for what befell the connection.
        status: HTTP's, or None where no answer came.
        throttled: whether other receivers got a 429 too, so that it says nothing about this one.
        out_of_time: whether the deadline, and not the answer, ended it.
    """

    what: str = ""
    status: int | None = None
    throttled: bool = False
    out_of_time: bool = False

    @property
    def worth_another_try(self) -> bool:
        """Whether a later call may succeed. A 4xx is about this receiver only and stays what it is, a client
        that is too slow (429 on each of its tries, while others got theirs) included."""
        about_the_receiver = self.status is not None and 400 <= self.status < 500
        return not about_the_receiver or self.throttled or self.out_of_time

    def __str__(self) -> str:
        """For the log, e.g. `429 LimitExceededException` or `out of time after 503`."""
        answer = f"{self.status or ''} {self.what}".strip()
        if self.throttled:
            answer = f"throttled: {answer}"
        if self.out_of_time:
            return f"out of time after {answer}" if answer else "out of time"
        return answer


@dataclass(slots=True)
class PostReport:
    """What became of one call: every receiver is in exactly one of the four lists.

    Attributes:
        sent: the management API took the message (it does not say that the client has read it).
        gone: it answered 410; whoever keeps the connection should prune it.
        failed: it took nothing, after all retries or because a retry is useless.
        unknown: the request went out and no answer came, so it may have been taken.
        failures: why, of each receiver that failed or is unknown.
    """

    sent: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)

    def settle(self, connection_id: str, outcome: Outcome, failure: Failure | None = None) -> None:
        """Enter a receiver into its one list."""
        if outcome is Outcome.SENT:  # nearly always
            self.sent.append(connection_id)
        else:
            _LISTS[outcome](self).append(connection_id)
        if failure is not None:
            self.failures[connection_id] = failure

    def replace(self, connection_ids: Iterable[str], later: "PostReport") -> None:
        """Put the outcome of a later call in the place of what these receivers had."""
        again = set(connection_ids)
        for outcome in Outcome:
            name = outcome.value
            setattr(self, name, [i for i in getattr(self, name) if i not in again] + getattr(later, name))
        self.failures = {i: f for i, f in self.failures.items() if i not in again} | later.failures

    @property
    def reasons(self) -> Counter[str]:
        """How many receivers failed or are unknown for which reason, for the log."""
        return Counter(str(failure) for failure in self.failures.values())

    @property
    def refused(self) -> list[str]:
        """Those that got a 403 for which the caller's own credentials are to blame: one of many is about that
        receiver, several or all are not."""
        refused = [i for i, failure in self.failures.items() if failure.status == 403]
        everyone = len(self.sent) + len(self.gone) + len(self.failed) + len(self.unknown)
        return refused if len(refused) > 1 or everyone == 1 else []


_LISTS = {outcome: attrgetter(outcome.value) for outcome in Outcome}
