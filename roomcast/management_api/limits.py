"""How hard the pool tries: connections, tries and times. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How hard a pool tries.

    Attributes:
        max_connections: TCP connections open at once, as needed: one more for every four posts that wait.
        max_requests: that are out at once over HTTP/2, where a connection carries more than one.
        connect_timeout: seconds for one TCP connection, its TLS handshake included.
        request_timeout: seconds without a whole response after which the outcome of a request is unknown.
        max_tries: of one receiver, in one call.
        throttled_tries: of one receiver while 429s come for many.
        backoff_base: seconds; the n-th retry waits a random time in [0, min(cap, base * 2**n)] (full jitter).
        backoff_cap: seconds; see `backoff_base`.
        stale: seconds of idleness after which the server may have closed a connection unseen.
    """

    max_connections: int = 64
    max_requests: int = 512
    connect_timeout: float = 3.0
    request_timeout: float = 5.0
    max_tries: int = 5
    throttled_tries: int = 12
    backoff_base: float = 0.1
    backoff_cap: float = 3.0
    stale: float = 0.5
