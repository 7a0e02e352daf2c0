"""What a person sees while the local stack runs: one readable line an event.

Never a message's body, never a token: an action's name, a connection id, a status, how long it took.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TextIO

_PLAIN = {"dim": "", "bold": "", "red": "", "green": "", "yellow": "", "reset": ""}
_COLOURS = {
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
    "red": "\x1b[31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
    "reset": "\x1b[0m",
}


class Console:
    """Writes lines to `stream`; with colours on a terminal. `quiet` leaves only notes and problems."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._quiet = quiet
        self._style = _COLOURS if self._stream.isatty() else _PLAIN

    def note(self, text: str) -> None:
        """Something about the stack itself."""
        self._write(text)

    def problem(self, text: str) -> None:
        """Something that went wrong."""
        self._write(f"{self._style['red']}{text}{self._style['reset']}")

    def event(
        self, route: str, connection_id: str, detail: str, *, started: float | None = None, error: str = ""
    ) -> None:
        """Something that a client did, and how it ended.

        Args:
            started: `time.perf_counter()` when it began.
            error: why it failed, if it did.
        """
        if self._quiet and not error:
            return
        style = self._style
        took = f"{(time.perf_counter() - started) * 1000:5.0f} ms" if started is not None else ""
        now = datetime.now().strftime("%H:%M:%S.%f")[:-3]  # noqa: DTZ005 the wall clock of whoever reads it
        line = f"{style['dim']}{now}{style['reset']} {route:<12} {connection_id:<16} {took:>8}  {detail}"
        if error:
            line += f"  {style['red']}{error}{style['reset']}"
        self._write(line)

    def function(self, name: str, request_id: str, line: str) -> None:
        """A line that a function wrote."""
        if not self._quiet:
            short = name.rsplit("-", 1)[-1]
            self._write(f"{self._style['dim']}  {short} {request_id[:8]:<8} | {line}{self._style['reset']}")

    def _write(self, line: str) -> None:
        # What clients and functions send may hold control characters: they must not reach the terminal.
        safe = "".join(c if c.isprintable() or c in "\x1b\t" else "?" for c in line)
        self._stream.write(safe + "\n")
        self._stream.flush()
