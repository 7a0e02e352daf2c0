"""The message and the receivers that every sender gets, and how its processor time is taken."""

import json
import resource
import time
from collections.abc import Callable

COLD = 1000
BODY = json.dumps(
    {
        "event": "dashboard:update",
        "data": {"text": "x" * 180},
        "timestamp": "2026-01-01T00:00:00.000Z",
        "id": "01947416-2a40-7c2e-a2f1-5b0c6d7e8f90",
    }
).encode()


def ids(count: int) -> list[str]:
    """So many receivers; one in a hundred is gone."""
    return [f"TWegAc4EowC{n:06}{'gone' if n % 100 == 99 else ''}=" for n in range(count)]


def cpu_us() -> float:
    """User and system time of this process so far, all threads, in µs."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (usage.ru_utime + usage.ru_stime) * 1e6


class Meter:
    """Prints what a sender took: the first 1,000 messages with the process's start, then rounds of many."""

    def run(self, send: Callable[[list[str]], tuple[int, int]], count: int, rounds: int) -> None:
        """Measure. `send` returns how many were sent and gone."""
        self._send(send, COLD)
        cold = cpu_us() / COLD
        results = []
        for _ in range(rounds):
            before, began = cpu_us(), time.perf_counter()
            self._send(send, count)
            results.append(((cpu_us() - before) / count, count / (time.perf_counter() - began)))
        cpu, rate = sorted(results)[(len(results) - 1) // 2]
        print(json.dumps({"cpu_us": cpu, "per_second": rate, "cold_us": cold}))

    def _send(self, send: Callable[[list[str]], tuple[int, int]], count: int) -> None:
        sent, gone = send(ids(count))
        assert (sent, gone) == (count - count // 100, count // 100), f"{sent} sent, {gone} gone of {count}"
