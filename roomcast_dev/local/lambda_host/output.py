"""What a worker process writes, as lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_LOG_LINE = 8 * 1024  # ours: bytes of one line shown on the console


class FunctionOutput(asyncio.Protocol):
    """Reads a worker's pipe line by line; a long line is cut, never kept whole.

    Args:
        emit: called with each line.
    """

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._write = emit
        self._line = bytearray()
        self._cut = 0

    def data_received(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            self._emit()
        self._add(rest)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._line:
            self._emit()

    def _add(self, data: bytes) -> None:
        room = MAX_LOG_LINE - len(self._line)
        self._line += data[:room]
        self._cut += max(0, len(data) - room)

    def _emit(self) -> None:
        text = self._line.decode(errors="replace").rstrip("\r")
        if self._cut:
            text += f" ... ({self._cut} more bytes)"
        self._line.clear()
        self._cut = 0
        if text:
            for line in text.split("\r"):  # awslambdaric joins the lines of a stack trace with \r
                self._write(line)
