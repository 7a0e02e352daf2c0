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

from roomcast.plain_text import plain
from roomcast.settings import Algorithm
from roomcast.tokens.key_set import KeySet

_FETCH_TIMEOUT = 3.0  # seconds; a handshake waits for it
_MAX_DOCUMENT_BYTES = 256 * 1024
_MIN_BITS = {"RS256": 2048, "ES256": 256}  # RFC 7518, sections 3.3 and 3.4
_PUBLIC_PARTS = ("kty", "n", "e", "crv", "x", "y")
# Firewalls refuse `Python-urllib`, the usual user agent, as that of a robot.
_HEADERS = {"User-Agent": "roomcast", "Accept": "application/json"}

log = logging.getLogger(__name__)


class PublicKeys(KeySet):
    """Public keys of a document.

    Each key is read on its own: one that is for another algorithm or use, malformed, on another curve or too
    short is left out, as RFC 7517, section 5 asks.

    Args:
        url: where the document is.
        algorithm: the stage's.
        clock: seconds, monotonic.
    """

    def __init__(self, url: str, algorithm: Algorithm, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("public keys", url, clock)
        self._url = url
        self._algorithm = algorithm

    def _read(self) -> tuple[Any, ...]:
        request = urllib.request.Request(self._url, headers=_HEADERS)  # noqa: S310
        with urllib.request.urlopen(request, timeout=_FETCH_TIMEOUT) as answer:  # noqa: S310
            document = json.loads(answer.read(_MAX_DOCUMENT_BYTES))
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ValueError("not a JWKS document")  # noqa: TRY004  it is handled as one
        found = [key for entry in document["keys"] if (key := self._key(entry)) is not None]
        if not found:
            raise ValueError(f"no key of the document can be used for {self._algorithm}")
        return tuple(found)

    def _key(self, entry: Any) -> Any:
        """The key of one entry; None where it cannot be used."""
        try:
            if not self._is_meant(entry):
                return None
            # Of a document that shows private parts too, only the public ones are wanted.
            public = {name: entry[name] for name in _PUBLIC_PARTS if name in entry}
            key = jwt.PyJWK(public, self._algorithm).key
        except Exception as error:  # noqa: BLE001  the parsers of keys fail in many ways; the others count
            log.warning("left out a public key from=%s error=%s", self._url, plain(error, 200))
            return None
        if key.key_size < _MIN_BITS[self._algorithm]:
            log.warning("left out a public key from=%s error=%d bits are too few", self._url, key.key_size)
            return None
        return key

    def _is_meant(self, entry: Any) -> bool:
        """Whether the key says that it is for signatures of the stage's algorithm."""
        operations = entry.get("key_ops")
        kind = {"RS256": "RSA", "ES256": "EC"}[self._algorithm]
        return (
            entry.get("kty") == kind
            and entry.get("alg") in (None, self._algorithm)
            and entry.get("use") in (None, "sig")
            and (operations is None or "verify" in operations)
            and (kind == "RSA" or entry.get("crv") == "P-256")
        )
