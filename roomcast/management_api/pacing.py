"""How fast posts go out: an even pace that was asked for, and a brake while the account is throttled."""

import random


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

    One client that reads too slowly earns 429s too, but only for itself: so only 429s for several receivers,
    and a share of them over `_SHARE`, count. Windows have a random length: workers that are throttled at
    the same moment don't come back at the same moment.

    Attributes:
        pace: at which requests may go out; None where nothing is held back.
    """

    _SHARE = 0.05
    _FLOOR = 50.0  # requests/s
    _FORGETS = 5.0  # s
    _CEILING = 10_000.0  # requests/s; the account's quota: above it there is nothing to hold back

    def __init__(self) -> None:
        self.pace: Pace | None = None
        self._was_throttled = False
        self._answers = self._throttled = 0
        self._clients: set[str] = set()  # that got a 429
        self._starts = self._ends = 0.0

    def count(self, now: float, throttled: str | None) -> None:
        """Take note of one answer; `throttled` is the receiver for which it was a 429."""
        if now >= self._ends:
            self._turn(now)
        self._answers += 1
        if throttled is not None:
            self._throttled += 1
            self._clients.add(throttled)

    def is_on(self) -> bool:
        """Whether 429s come for the rate, not for single clients."""
        return self._was_throttled or self._is_over_share()

    def _is_over_share(self) -> bool:
        return len(self._clients) >= 3 and self._throttled > self._answers * self._SHARE

    def _turn(self, now: float) -> None:
        took = max(now - self._starts, 0.001)
        rate = self._answers / took
        if self._is_over_share():
            self._was_throttled = True
            self.pace = Pace(max(self._FLOOR, rate / 2), now)
        elif self._answers > self._throttled or took > self._FORGETS:
            self._was_throttled = False
            if self.pace is not None:
                faster = self.pace.rate * 1.25
                holds = rate > self.pace.rate / 4 and faster < self._CEILING
                self.pace = Pace(faster, now) if holds else None
        # Else there were a few 429s and nothing but 429s, which adds nothing to what was known.
        self._answers = self._throttled = 0
        self._clients.clear()
        self._starts = now
        self._ends = now + random.uniform(0.1, 0.3)  # noqa: S311  spreads load, guards nothing
