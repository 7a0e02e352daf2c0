"""When keys from elsewhere are read: at first use, once a minute in use, and for an unknown signature."""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from roomcast.errors import KeysUnavailableError
from roomcast.plain_text import plain

MAX_AGE_SECONDS = 60
"""Keys are read again when a token comes and they are older: so a withdrawn key stops working."""
RETRY_SECONDS = 5
"""After a read that failed, while older keys are there to go on with."""
COLD_RETRY_SECONDS = 1
"""After a read that failed, while there are no keys at all."""
REREAD_BURST = 5
REREAD_SECONDS = 5
"""A signature that no key has made may cause a read: five at once, and one more every five seconds. So a
flood of forged tokens is not a flood of calls, and one forged token does not use up the look for new keys."""

log = logging.getLogger(__name__)


class KeySet(ABC):
    """Keys that are read from elsewhere and kept. A read that fails, however, leaves them as they were.

    Args:
        what: the keys are, for the log.
        name: of the place.
        clock: seconds, monotonic.
    """

    def __init__(self, what: str, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._name = name
        self._clock = clock
        self._keys: tuple[Any, ...] = ()
        self._problem = "not read yet"
        self._due = -math.inf  # when the keys are to be read again
        self._rereads = float(REREAD_BURST)
        self._refilled_at = clock()

    def known(self) -> tuple[Any, ...]:
        """The keys, at most a minute old as long as they can be read.

        Raises:
            KeysUnavailableError: there are none, because no read has succeeded yet.
        """
        if self._clock() >= self._due:
            self._refresh()
        if not self._keys:
            raise KeysUnavailableError(f"cannot read the {self._what} from {self._name}: {self._problem}")
        return self._keys

    def reread(self) -> tuple[Any, ...]:
        """The keys after a look for new ones, or the same while there have been too many looks."""
        now = self._clock()
        refill = (now - self._refilled_at) / REREAD_SECONDS
        self._rereads = min(REREAD_BURST, self._rereads + refill)
        self._refilled_at = now
        if self._rereads >= 1:
            self._rereads -= 1
            self._refresh()
        return self._keys

    @abstractmethod
    def _read(self) -> tuple[Any, ...]:
        """Read the keys, newest first; whatever is wrong is raised."""

    def _refresh(self) -> None:
        try:
            keys = self._read()
        except Exception as error:  # noqa: BLE001  a place of keys can fail in any way; the keys stay
            self._problem = plain(f"{type(error).__name__}: {error}", 300)
            log.warning("cannot read the %s from=%s error=%s", self._what, self._name, self._problem)
            self._due = self._clock() + (RETRY_SECONDS if self._keys else COLD_RETRY_SECONDS)
            return
        self._keys = keys
        self._due = self._clock() + MAX_AGE_SECONDS
