"""What a person sees while the local run goes on: one readable line for each event.

Never a message's body, never a token: an action's name, a connection id, a status, how long it took. What
clients and functions write is shown without control characters and without anything that looks like a token.
"""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime
from typing import TextIO
from urllib.parse import unquote

HIDDEN = "[hidden]"

_PLAIN = {"dim": "", "red": "", "reset": ""}
_COLOURS = {
    "dim": "\x1b[2m",
    "red": "\x1b[31m",
    "reset": "\x1b[0m",
}

_TOKEN = re.compile(
    r"eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]+)*"  # a JWT, whole or cut: it begins with {" in Base64
    r"|(?i:(?<=token=)|(?<=ticket=)|(?<=secret=)|(?<=bearer ))[^\s&;,'\"]+"
)
# A client can put a ticket or a key anywhere. Nothing that a person names a route or a stage is this long
# and has both letters and digits.
_LONG = re.compile(r"(?=[A-Za-z_~+=.-]*[0-9])(?=[0-9_~+=.-]*[A-Za-z])[A-Za-z0-9_~+=.-]{24,}")

_LOGGED = re.compile(r"(?P<level>\[[A-Z]+\])\t[^\t]*\t(?P<request>[^\t]+)\t(?P<message>.*)", re.DOTALL)
"""What awslambdaric writes of a log record: level, time, request id and message with tabs between."""
_SAID = re.compile(r"\[INFO\] (?:action|refused|connected|disconnected) connectionId=")
"""What Roomcast's functions log of each event: its own line says the same."""
_PROBLEM = re.compile(r"\[(?:WARNING|ERROR|CRITICAL)\]")


def client_text(text: str, limit: int = 80) -> str:
    """Make what a client chose (a path, an action, a reason) fit to be shown.

    Args:
        text: percent-encoded or not.
        limit: characters; the rest is cut off.
    """
    text = _LONG.sub(HIDDEN, _TOKEN.sub(HIDDEN, unquote(text)))
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Console:
    """Writes lines to `stream`; with colours on a terminal. `quiet` leaves only notes and problems.

    A character that the stream's encoding does not have is shown as `?`. When the terminal has gone, the run
    goes on without one.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stdout  # None where the process has no stdout
        self._quiet = quiet
        self._gone = self._stream is None
        self._style = _COLOURS if self._stream is not None and self._stream.isatty() else _PLAIN

    def note(self, text: str) -> None:
        """Show something about the run itself."""
        self._write(text)

    def problem(self, text: str) -> None:
        """Show something that went wrong."""
        self._write(f"{self._style['red']}{_clean(text)}{self._style['reset']}")

    def event(
        self,
        route: str,
        connection_id: str,
        detail: str,
        *,
        started: float | None = None,
        took: float | None = None,
        error: str = "",
    ) -> None:
        """Show something that a client did, and how it ended.

        Args:
            route: as the template has it, or as the client chose it.
            detail: of the client's own text only what `client_text` returns.
            started: `time.perf_counter()` when it began, if it ends now.
            took: the seconds that it took otherwise.
            error: why it failed, if it did.
        """
        if self._quiet and not error:
            return
        style = self._style
        if started is not None:
            took = time.perf_counter() - started
        duration = f"{took * 1000:5.0f} ms" if took is not None else ""
        now = datetime.now().strftime("%H:%M:%S.%f")[:-3]  # noqa: DTZ005 the wall clock of whoever reads it
        line = f"{style['dim']}{now}{style['reset']} {_clean(route):<12} {connection_id:<16} {duration:>8}  "
        line += _clean(detail)
        if error:
            line += f"  {style['red']}{_clean(error)}{style['reset']}"
        self._write(line)

    def function(self, name: str, request_id: str, line: str) -> None:
        """Show a line that a function wrote, while it served this request or just after it."""
        if self._quiet:
            return
        text = line
        if match := _LOGGED.match(line):  # its own id: it may be read when the next request is served
            request_id, text = match["request"], f"{match['level']} {match['message']}"
        if _SAID.match(text):
            return
        style = self._style
        colour = style["red" if _PROBLEM.match(text) else "dim"]
        short = name.rsplit("-", 1)[-1]
        self._write(f"{colour}             {short} {request_id[:8]} | {_clean(text)}{style['reset']}")

    def _write(self, line: str) -> None:
        if self._gone:
            return
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()
        except OSError:
            self._gone = True


def _clean(text: str) -> str:
    """Control characters must not reach the terminal, and tokens nobody's eyes."""
    text = _TOKEN.sub(HIDDEN, text)
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
