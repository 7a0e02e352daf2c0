"""Whose post goes out next: from each send in turn, at its pace and under the brake of the account."""

from collections import deque
from collections.abc import Callable

from roomcast.management_api.pacing import Brake, Pace
from roomcast.management_api.send import Post, Send


class Turns:
    """The sends that have posts left. Lives on the pool's thread.

    Args:
        wake_at: called with the time at which a post that waits may go out, seconds of the loop's clock.

    Attributes:
        sends: the next one first.
        brake: of all sends.
    """

    def __init__(self, wake_at: Callable[[float], None]) -> None:
        self.sends: deque[Send] = deque()
        self.brake = Brake()
        self._paces: dict[float, Pace] = {}
        self._wake_at = wake_at

    def add(self, send: Send, now: float) -> None:
        """Let a send take part, if it has posts left and does not yet."""
        if send.pace is None and send.rate is not None:
            send.pace = self._paces.setdefault(send.rate, Pace(send.rate, now))
        if send.left and send not in self.sends:
            self.sends.append(send)

    def remove(self, send: Send) -> None:
        """Leave a send out from now on."""
        if send in self.sends:
            self.sends.remove(send)

    def next(self, now: float) -> Post | None:
        """Take the next post that may go out now."""
        brake = self.brake.pace
        if brake is not None and not brake.due(now):
            if any(send.ready for send in self.sends):
                self._wake_at(now + brake.wait(now))
            return None
        for _ in range(len(self.sends)):
            send = self.sends[0]
            if len(self.sends) > 1:
                self.sends.rotate(-1)
            if not send.ready:
                continue
            if send.pace is not None:
                if not send.pace.due(now):
                    self._wake_at(now + send.pace.wait(now))
                    continue
                send.pace.spend(now)
            if brake is not None:
                brake.spend(now)
            return send.ready.popleft()
        return None

    def due(self, now: float) -> int:
        """How many posts may go out now."""
        due = 0
        for send in self.sends:
            count = len(send.ready)
            for pace in (self.brake.pace, send.pace):
                if pace is not None and count:
                    count = min(count, pace.due(now))
                    if not count:
                        self._wake_at(now + pace.wait(now))
            due += count
        return due
