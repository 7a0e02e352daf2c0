"""A backend that sends numbered messages to a room at a rate, and records what came of them.

Reads jobs, one JSON a line: {"room", "first", "count", "rate", "threads", "records"}. `rate` is messages a
second over all threads; 0 sends as fast as it can.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from botocore.exceptions import BotoCoreError, ClientError

from roomcast import RoomcastError, WebSocketService


class Sender:
    def __init__(self, service: WebSocketService, job: dict[str, Any], records: TextIO) -> None:
        self.service, self.job, self.records = service, job, records
        self.next, self.lock = 0, threading.Lock()
        self.began = time.monotonic()
        self.failures = 0
        position = getattr(service, "position", None)
        self.epoch = position(job["room"]).epoch if position is not None else None

    def run(self) -> dict[str, Any]:
        threads = [threading.Thread(target=self._work) for _ in range(self.job["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.monotonic() - self.began
        return {"seconds": taken, "rate": self.job["count"] / taken, "failures": self.failures}

    def _work(self) -> None:
        rate = self.job["rate"]
        while True:
            with self.lock:
                number = self.next
                self.next += 1
            if number >= self.job["count"]:
                return
            if rate:
                time.sleep(max(0.0, self.began + number / rate - time.monotonic()))
            self._send(self.job["first"] + number)

    def _send(self, number: int) -> None:
        data = {"n": number, "sent": time.time() * 1000}
        try:
            report = self.service.send_to_room(self.job["room"], "tick", data)
        except (RoomcastError, BotoCoreError, ClientError) as error:  # the checker judges what was appended
            self.failures += 1
            print(f"send {number}: {error!r}", file=sys.stderr, flush=True)
            return
        seq = getattr(report, "seq", None)
        if seq is not None:
            at = {"room": self.job["room"], "epoch": self.epoch, "seq": seq}
            record = {"who": "backend", "what": "appended", **at, "id": report.id, "t": time.time()}
            with self.lock:
                self.records.write(json.dumps(record) + "\n")


def main() -> None:
    service = WebSocketService.from_env()
    for line in sys.stdin:
        job = json.loads(line)
        with Path(job["records"]).open("a") as records:
            print(json.dumps(Sender(service, job, records).run()), flush=True)


if __name__ == "__main__":
    main()
