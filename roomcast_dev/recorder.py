"""Writes the records that `roomcast check` judges: what a backend's sends, grants and revocations came to."""

import json
import threading
import time
from pathlib import Path
from typing import Any


class Recorder:
    """Appends records to a file, from any thread.

    Args:
        path: the file.
        who: the writer's name: one for each life of a page, and one for each backend.
    """

    def __init__(self, path: Path, who: str) -> None:
        self._who = who
        self._file = path.open("a", encoding="utf-8")
        self._turn = threading.Lock()

    def write(self, what: str, **fields: Any) -> None:
        """Write one record with the time; `docs/checking.md` lists the kinds."""
        line = json.dumps({"who": self._who, "what": what, **fields, "t": time.time()})
        with self._turn:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RecordedService:
    """A `WebSocketService` whose sends to rooms with history, grants and revocations are recorded.

    Each record asks the stage for the position of the room, one read unit. Everything else of the service is
    there too, unrecorded.

    Args:
        service: does the work.
        recorder: where it is written.
    """

    def __init__(self, service: Any, recorder: Recorder) -> None:
        self._service = service
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def send_to_room(self, room: str, event: str, data: object, **options: Any) -> Any:
        """Send, and record `appended` if the room has a history."""
        return self._sent(room, self._service.send_to_room(room, event, data, **options))

    def send_to_user(self, user_id: str, event: str, data: object, **options: Any) -> Any:
        """Send, and record `appended` if inboxes have a history."""
        return self._sent(f"user_{user_id}", self._service.send_to_user(user_id, event, data, **options))

    def broadcast(self, event: str, data: object, **options: Any) -> Any:
        """Send, and record `appended` if broadcasts have a history."""
        return self._sent("all", self._service.broadcast(event, data, **options))

    def grant_room(self, room: str, user_id: str) -> None:
        """Grant, and record `granted` with the position before it."""
        before = self._position(room)
        self._service.grant_room(room, user_id)
        self._recorder.write("granted", user=user_id, **before)

    def revoke_room(self, room: str, user_id: str) -> None:
        """Revoke, and record `revoked` with the position after it."""
        self._service.revoke_room(room, user_id)
        self._recorder.write("revoked", user=user_id, **self._position(room))

    def _sent(self, room: str, report: Any) -> Any:
        if report.seq is not None:
            self._recorder.write("appended", **{**self._position(room), "seq": report.seq}, id=report.id)
        return report

    def _position(self, room: str) -> dict[str, Any]:
        at = self._service.position(room)
        return {"room": room, "epoch": at.epoch, "seq": at.seq}
