"""The keys of RS256 and ES256 tokens: public ones, from a JWKS document (RFC 7517).

Needs the package `cryptography` (`roomcast[jwks]`).
"""

import json
import logging
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import jwt

from roomcast.settings import Algorithm
from roomcast.tokens.secret_keys import REREAD_SECONDS

_FETCH_TIMEOUT = 3.0  # seconds; a handshake waits for it
_MAX_DOCUMENT_BYTES = 256 * 1024

log = logging.getLogger(__name__)


class PublicKeys:
    """Public keys, read when first needed and kept; one failure to fetch them leaves them as they were.

    Args:
        url: where the document is.
        algorithm: the stage's; a key that names another, or another use than signatures, is left out.
        clock: seconds, monotonic.
    """

    def __init__(self, url: str, algorithm: Algorithm, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._algorithm = algorithm
        self._clock = clock
        self._keys: tuple[Any, ...] = ()
        self._read_at: float | None = None

    def known(self) -> tuple[Any, ...]:
        """The keys as last read."""
        return self._keys or self.reread()

    def reread(self) -> tuple[Any, ...]:
        """The keys after fetching the document, which is done at most once a minute."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= REREAD_SECONDS:
            self._read_at = now
            try:
                self._keys = self._fetch()
            except (OSError, ValueError, jwt.PyJWTError) as error:
                log.warning("cannot read the public keys url=%s error=%s", self._url, error)
        return self._keys

    def _fetch(self) -> tuple[Any, ...]:
        with urllib.request.urlopen(self._url, timeout=_FETCH_TIMEOUT) as answer:  # noqa: S310
            document = json.loads(answer.read(_MAX_DOCUMENT_BYTES))
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ValueError("no JWKS document")  # noqa: TRY004  it is caught as one
        return tuple(jwt.PyJWK(key, self._algorithm).key for key in document["keys"] if self._fits(key))

    def _fits(self, key: Any) -> bool:
        return (
            isinstance(key, dict)
            and key.get("kty") == {"RS256": "RSA", "ES256": "EC"}[self._algorithm]
            and key.get("alg", self._algorithm) == self._algorithm
            and key.get("use", "sig") == "sig"
            and "verify" in key.get("key_ops", ["verify"])
        )
