"""API Gateway's limits, and the account's quotas where a run enforces them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from roomcast_dev.local.template.model import Throttle

IDLE_TIMEOUT = 600.0  # API Gateway quota: seconds without a message in either direction
MAX_DURATION = 7200.0  # API Gateway quota: seconds that a connection may live
MAX_URL = 4096  # API Gateway quota: characters of the handshake's URL
MAX_AUTHORIZER_RESULT = 8 * 1024  # API Gateway quota: bytes
CONNECTS_PER_SECOND = 500.0  # API Gateway quota of an account
REQUESTS_PER_SECOND = 10_000.0  # API Gateway quota of an account, messages in both directions together
REQUEST_BURST = 5_000
MAX_UNSENT = 1024 * 1024  # ours: bytes kept for a client that does not read, before posts get 429


class TokenBucket:
    """Lets `rate` calls a second pass, and `burst` at once.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, max(burst, 1.0), clock
        self._tokens, self._at = self._burst, clock()

    def take(self) -> bool:
        """Whether one more call may pass now; counts it if so."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas that are enforced; `None` lets everything pass."""

    connects: TokenBucket | None = None
    requests: TokenBucket | None = None

    @classmethod
    def of_account(cls, share: float, throttle: Throttle | None) -> Quotas:
        """Make the quotas of a new AWS account, or a share of them.

        Args:
            share: 1.0 is all of them.
            throttle: the stage's own, which may be lower.
        """
        connects = CONNECTS_PER_SECOND * share
        rate, burst = REQUESTS_PER_SECOND * share, REQUEST_BURST * share
        if throttle is not None:
            rate, burst = min(rate, throttle.rate), min(burst, throttle.burst)
        return cls(TokenBucket(connects, connects), TokenBucket(rate, burst))

    def allow_connect(self) -> bool:
        """Whether a handshake is within the quota; counts it."""
        return self.connects is None or self.connects.take()

    def allow_request(self) -> bool:
        """Whether a message or a post is within the quota; counts it."""
        return self.requests is None or self.requests.take()
