"""What backends send, on the console: one line for each envelope, however many connections get it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from roomcast_dev.local.console import Console, client_text

PAUSE = 0.1  # ours: seconds without a post of an envelope, after which its line is written


@dataclass(slots=True)
class _Send:
    started: float
    last: float
    statuses: Counter[int] = field(default_factory=Counter)


class Sends:
    """Collects the posts of the management API."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._under_way: dict[bytes, _Send] = {}
        self._timer: asyncio.TimerHandle | None = None

    def posted(self, body: bytes, status: int) -> None:
        """Count a post and how it was answered."""
        now = time.perf_counter()
        send = self._under_way.setdefault(body, _Send(now, now))
        send.last = now
        send.statuses[status] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._show)

    def _show(self) -> None:
        now = time.perf_counter()
        for body in [body for body, send in self._under_way.items() if now - send.last >= PAUSE]:
            send = self._under_way.pop(body)
            sent = send.statuses.pop(200, 0)
            self._console.event(
                "send",
                f"{sent} connection{'' if sent == 1 else 's'}",
                _about(body),
                took=send.last - send.started,
                error="  ".join(f"{count} answered {status}" for status, count in send.statuses.items()),
            )
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PAUSE, self._show) if self._under_way else None


def _about(body: bytes) -> str:
    """The event's name and its room; never the data."""
    try:
        envelope: Any = json.loads(body)
        event, room = envelope["event"], envelope.get("room")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return f"{len(body)} bytes"
    return client_text(f"{event} to {room}" if room else str(event))
