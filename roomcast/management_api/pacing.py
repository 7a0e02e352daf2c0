"""How fast posts go out: an even pace that was asked for, and a brake while the account is throttled."""

import math
import random
from dataclasses import dataclass


class Pace:
    """So many a second, evenly; what was missed is made up for within `_SLACK` only.

    Args:
        rate: a second.
        now: seconds of any clock; the same one in every call.
    """

    _SLACK = 0.25  # s; as long as a worker may need to fetch its next job

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._next = now

    def due(self, now: float) -> int:
        """How many may go out now."""
        return 0 if now < self._next else int(min(now - self._next, self._SLACK) * self.rate) + 1

    def spend(self, now: float) -> None:
        """Take note that one goes out."""
        self._next = max(self._next, now - self._SLACK) + 1 / self.rate

    def wait(self, now: float) -> float:
        """Seconds until one is due."""
        return self._next - now


class Brake:
    """Slows all sends of a pool down while the account is throttled, and lets go again.

    A client that reads too slowly earns 429s too, for itself and on each of its tries, so what retries meet
    says nothing about the account: once the others have their message, nothing but retries of slow clients
    is left. What counts is the *first* tries, each receiver once, over up to two seconds: of an account that
    is throttled a large share of them gets a 429, whoever they are for. Up to `_SHARE` of all clients may be
    slow; how far the share must be over it depends on how many were seen, so that chance does not decide.

    The pace changes in steps of random length: workers that are throttled at the same moment don't come back
    at the same moment.

    Attributes:
        pace: at which requests may go out; None where nothing is held back.
    """

    _SHARE = 0.25
    _SPREAD = 1.6  # times the root of how many were seen: four standard deviations of a fifth
    _REMEMBERS = 2.0  # s
    _FLOOR = 50.0  # requests/s
    _FORGETS = 5.0  # s without a success, after which it tries whether there is still a reason
    _CEILING = 10_000.0  # requests/s; the account's quota: above it there is nothing to hold back

    def __init__(self) -> None:
        self.pace: Pace | None = None
        self._first = _Tally()
        self._first_since = 0.0
        self._clients: set[str] = set()  # that are in `_first`
        self._retries = _Tally()  # of this step
        self._answers = _Tally()  # of this step, first tries and retries
        self._starts = self._ends = 0.0
        self._succeeded_at = self._braked_at = 0.0
        self._slowed_at = -math.inf

    def count(self, now: float, receiver: str, *, throttled: bool, first: bool) -> None:
        """Take note of one answer.

        Args:
            now: seconds of any clock; the same one in every call.
            receiver: who the request was for.
            throttled: whether the answer was a 429.
            first: whether it was the first try of this send.
        """
        if now >= self._ends:
            self._step(now)
        if now - self._first_since > self._REMEMBERS:
            self._forget_first(now)
        self._answers.count(throttled)
        if not throttled:
            self._succeeded_at = now
        if not first:
            self._retries.count(throttled)
        elif receiver not in self._clients:
            self._clients.add(receiver)
            self._first.count(throttled)

    def is_on(self) -> bool:
        """Whether 429s come for the rate, not for single clients."""
        return self.pace is not None or self._is_over_share()

    def _is_over_share(self) -> bool:
        seen = self._first.answers
        return self._first.throttled > self._SHARE * seen + self._SPREAD * math.sqrt(seen)

    def _step(self, now: float) -> None:
        took = max(now - self._starts, 0.001)
        rate = self._answers.answers / took
        lately = now - self._slowed_at < self._FORGETS
        if self._is_over_share() or (lately and self._still_throttled()):
            if not lately:
                self._braked_at = now
            self._slowed_at = now
            self.pace = Pace(max(self._FLOOR, rate / 2), now)
            self._forget_first(now)
        elif self.pace is not None and (
            self._answers.share < 1 or now - max(self._succeeded_at, self._braked_at) > self._FORGETS
        ):
            faster = self.pace.rate * (1.25 if rate > self.pace.rate / 2 or not lately else 1)
            # Retries wait before they come, all at once: a pace that nobody reaches may still be needed.
            holds = (lately or rate > self.pace.rate / 4) and faster < self._CEILING
            self.pace = Pace(faster, now) if holds else None
        # Else there was nothing but 429s, which adds nothing to what was known.
        self._answers, self._retries = _Tally(), _Tally()
        self._starts = now
        self._ends = now + random.uniform(0.1, 0.3)  # noqa: S311  spreads load, guards nothing

    def _still_throttled(self) -> bool:
        """Whether retries go on to meet what has put the brake on: they fail often but not always, as they do
        at a limit, or nobody at all has been served since. Retries by themselves never put it on."""
        at_a_limit = 0.5 < self._retries.share < 1 and self._retries.answers >= 10
        stuck = self._answers.share == 1 and self._succeeded_at < self._braked_at
        return at_a_limit or stuck

    def _forget_first(self, now: float) -> None:
        self._first = _Tally()
        self._first_since = now
        self._clients.clear()


@dataclass(slots=True)
class _Tally:
    """How many answers came, and how many of them were a 429."""

    answers: int = 0
    throttled: int = 0

    def count(self, throttled: bool) -> None:
        self.answers += 1
        self.throttled += throttled

    @property
    def share(self) -> float:
        return self.throttled / self.answers if self.answers else 0.0
