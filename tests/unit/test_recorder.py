"""What a recorded backend writes is what the checker reads."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from roomcast_dev.checker import check
from roomcast_dev.recorder import RecordedService, Recorder
from roomcast_dev.records import read

ROOM = "chat_room_r1"


@dataclass
class Report:
    id: str
    seq: int | None


@dataclass
class At:
    epoch: str
    seq: int


class Service:
    """A service in memory whose rooms have a history, except the dashboard."""

    def __init__(self) -> None:
        self.heads: dict[str, int] = {}

    def send_to_room(self, room: str, event: str, data: object, id: str) -> Report:  # noqa: A002
        if room == "dashboard_admin":
            return Report(id, None)
        self.heads[room] = self.heads.get(room, 0) + 1
        return Report(id, self.heads[room])

    def send_to_user(self, user_id: str, event: str, data: object, id: str) -> Report:  # noqa: A002
        return self.send_to_room(f"user_{user_id}", event, data, id)

    def grant_room(self, room: str, user_id: str) -> None: ...

    def revoke_room(self, room: str, user_id: str) -> None: ...

    def position(self, room: str) -> At:
        return At("a", self.heads.get(room, 0))

    def count(self) -> int:
        return 7


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def test_sends_grants_and_revocations_are_recorded_with_their_positions(records: Path) -> None:
    inner: Any = Service()
    recorder = Recorder(records, "backend")
    service = RecordedService(inner, recorder)
    service.grant_room(ROOM, "u1")
    service.send_to_room(ROOM, "tick", {}, id="m1")
    service.send_to_room("dashboard_admin", "tick", {}, id="unnumbered")
    service.send_to_user("u1", "tick", {}, id="m2")
    service.revoke_room(ROOM, "u1")
    assert service.count() == 7
    recorder.close()
    written = [
        {k: v for k, v in json.loads(line).items() if k != "t"} for line in records.read_text().splitlines()
    ]
    at = {"who": "backend", "room": ROOM, "epoch": "a"}
    assert written == [
        {**at, "what": "granted", "user": "u1", "seq": 0},
        {**at, "what": "appended", "seq": 1, "id": "m1"},
        {**at, "what": "appended", "room": "user_u1", "seq": 1, "id": "m2"},
        {**at, "what": "revoked", "user": "u1", "seq": 1},
    ]


def test_the_checker_takes_what_was_recorded(records: Path) -> None:
    inner: Any = Service()
    page, backend = Recorder(records, "c1"), Recorder(records, "backend")
    service = RecordedService(inner, backend)
    page.write("joined", room=ROOM, epoch="a", seq=0, recovered=False, wasRecovering=False, user="u1")
    service.send_to_room(ROOM, "tick", {}, id="m1")
    service.send_to_room(ROOM, "tick", {}, id="m2")
    page.write("delivered", room=ROOM, epoch="a", seq=2, id="m2")
    page.close()
    backend.close()
    verdict = check(read(records.read_text().splitlines(), "records"))
    assert [v.message for v in verdict.violations] == ["c1 did not get chat_room_r1 a:1, and no gap was told"]
