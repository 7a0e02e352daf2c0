"""A stage in this process with a clock of its own: functions, worker and service on the fake of DynamoDB."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

from roomcast import WebSocketService
from roomcast.connection import Identity
from roomcast.functions import actions
from roomcast.management_api.report import Outcome, PostReport
from roomcast.rooms import Kind, Rooms
from roomcast.sending.worker import Worker
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.wiring import Wiring
from tests.builders import create_tables
from tests.fakes.dynamodb import FakeDynamoDB

KIND = Kind("chat_room_{room_id}", "anyone", presence="list")
ROOM = "chat_room_r1"


class Stage:
    """The gateway keeps what each connection gets, and the queue what is to be done when."""

    def __init__(self, kind: Kind = KIND) -> None:
        self.now = 1_800_000_000.0
        self.db = FakeDynamoDB()
        create_tables(self.db)
        client: Any = self.db
        rooms = Rooms([kind, Kind("lobby", "anyone")])
        self.store = Store(Tables(client, "connections", "rooms", clock=lambda: self.now), rooms)
        settings = Settings(
            connections_table="connections", rooms_table="rooms", rooms=rooms, actions_per_second=1000
        )
        self.wiring = Wiring(settings)
        this: Any = self
        self.wiring.store, self.wiring.job_queue = self.store, this
        self.service = WebSocketService(self.store, this, this, clock=lambda: self.now)
        self.worker = Worker(self.store, this, this, clock=lambda: self.now)
        self.got: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.gone: set[str] = set()
        self.has_sent = True
        self.url = "https://gateway.test"
        self.jobs: list[tuple[float, int, str]] = []
        self._ticks = itertools.count(1)

    # The queue

    def put(self, jobs: Iterable[Any], delay: float = 0) -> None:
        self.jobs += [(self.now + delay, next(self._ticks), job.dump()) for job in jobs]

    def give_back(self, receipt: str, pause: float) -> None: ...

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the worker run what falls due."""
        end = self.now + seconds
        while due := min((job for job in self.jobs if job[0] <= end), default=None):
            self.jobs.remove(due)
            self.now = max(self.now, due[0])
            assert self.run(due[2])
        self.now = end

    def run(self, body: str, receives: int = 1) -> bool:
        attributes = {
            "SentTimestamp": str(int(self.now * 1000)),
            "ApproximateReceiveCount": str(receives),
        }
        record = {"messageId": "m", "receiptHandle": "r", "body": body, "attributes": attributes}
        return self.worker.run(record)

    # The management API

    def post(self, connection_ids: Iterable[str], body: bytes, **_: Any) -> PostReport:
        return self.post_pages([connection_ids], body)

    def post_pages(self, pages: Iterable[Iterable[str]], body: bytes, **_: Any) -> PostReport:
        report = PostReport()
        envelope = json.loads(body)
        for connection_id in itertools.chain.from_iterable(pages):
            is_gone = connection_id in self.gone
            report.settle(connection_id, Outcome.GONE if is_gone else Outcome.SENT)
            if not is_gone:
                self.got.setdefault(connection_id, []).append((envelope["event"], envelope["data"]))
        return report

    def look(self, connection_ids: Iterable[str], **_: Any) -> PostReport:
        report = PostReport()
        for connection_id in connection_ids:
            report.settle(connection_id, Outcome.GONE if connection_id in self.gone else Outcome.SENT)
        return report

    def close(self) -> None: ...

    # People

    def connect(self, connection_id: str, user: str) -> None:
        until = int(self.now) + 24 * 3600
        who = Identity(user, "user", user.title(), f"{user}@x.test", until, int(self.now))
        assert self.store.connections.connect(connection_id, who) == "connected"

    def act(self, connection_id: str, action: str, **fields: Any) -> dict[str, Any]:
        reply = actions.handle(self.wiring, connection_id, json.dumps({"action": action, **fields}))
        assert reply is not None
        data: dict[str, Any] = json.loads(reply)["data"]
        return data

    def join(self, connection_id: str, user: str) -> dict[str, Any]:
        """Connect and join; what the answer says of presence."""
        self.connect(connection_id, user)
        [entry] = self.act(connection_id, "rooms:join", rooms=[{"room": ROOM}])["rooms"]
        presence: dict[str, Any] = entry["presence"]
        return presence

    def disconnect(self, connection_id: str) -> None:
        self.gone.add(connection_id)
        self.store.connections.disconnect(connection_id)

    def heard(self, connection_id: str) -> list[tuple[str, int, Any]]:
        """What a connection has heard, as event, version, and the user or the count."""
        heard = self.got.pop(connection_id, [])
        return [(e, d["version"], d["user"]["id"] if "user" in d else d["count"]) for e, d in heard]
