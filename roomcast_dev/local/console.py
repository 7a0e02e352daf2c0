"""What a person sees while the local run goes on: one readable line for each event.

Never a message's body, never a token: an action's name, a connection id, a status, how long it took.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TextIO

_PLAIN = {"dim": "", "red": "", "reset": ""}
_COLOURS = {
    "dim": "\x1b[2m",
    "red": "\x1b[31m",
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
        self._write(f"{self._style['red']}{_plain(text)}{self._style['reset']}")

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
        line = f"{style['dim']}{now}{style['reset']} {_plain(route):<12} {connection_id:<16} {took:>8}  "
        line += _plain(detail)
        if error:
            line += f"  {style['red']}{_plain(error)}{style['reset']}"
        self._write(line)

    def function(self, name: str, request_id: str, line: str) -> None:
        """A line that a function wrote."""
        if self._quiet:
            return
        # awslambdaric writes level, time, request id and message with tabs between; time and id are known.
        parts = line.split("\t", 3)
        text = f"{parts[0]} {parts[3]}" if len(parts) == 4 and parts[2] == request_id else line
        style = self._style
        short = name.rsplit("-", 1)[-1]
        self._write(f"{style['dim']}             {short} {request_id[:8]} | {_plain(text)}{style['reset']}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def _plain(text: str) -> str:
    """What clients and functions write may hold control characters: those must not reach the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
