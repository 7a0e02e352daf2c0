"""Streams of a whole stage keep their promises in any interleaving, and on bad days.

The service, the actions of the functions and the worker of the queue run for one call to AWS at a time. API
Gateway and the network are models: posts are lost, come late and overtake each other. Pages are the model
that runs the browser client's scenarios. Everybody records what happens, and `roomcast check` judges.

Classes and names that `System` makes its objects of may be replaced: `test_stream_faults.py` takes the rules
of streams out, one by one.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal
from unittest import mock

from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from roomcast.connection import Identity
from roomcast.errors import RoomcastError
from roomcast.functions import actions
from roomcast.management_api.report import Failure, Outcome, PostReport
from roomcast.rooms import Kind, Retention, Rooms, inbox
from roomcast.sending.job import SendLimits
from roomcast.sending.worker import Worker
from roomcast.service import WebSocketService
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.history import MARGIN, STALE, History
from roomcast.store.replay import Position
from roomcast.wiring import Wiring
from roomcast_dev.checker import INVARIANTS, check
from roomcast_dev.records import Record, read
from tests.builders import create_tables
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.support.history import expire
from tests.support.queue_model import QueueMachine
from tests.support.stepping import SIGNED_FOR, Operation, SignedClient
from tests.support.stream_client import StreamClient

CHAT = "chat_room_r1"
USERS = ("ann", "bob")
START = 1_800_000_000.0
HOUR = 3600
TOKEN_SECONDS = 3 * HOUR
ANSWER_SECONDS = 29.0  # API Gateway waits no longer for a function
ROOMS = Rooms(
    [
        Kind("dashboard_user_{user_id}", "own", Retention(messages=1, seconds=HOUR, window=2)),
        Kind("chat_room_{room_id}", "granted", Retention(messages=8, seconds=HOUR)),
        Kind("all", "anyone", Retention(messages=8, seconds=HOUR)),
    ]
)
PAGE = 3  # messages of one room in one reply
TIMES = (
    1.0,
    STALE + 1,
    SIGNED_FOR + 1,
    HOUR,
    HOUR + MARGIN - STALE / 2,
    HOUR + MARGIN + 1,
    TOKEN_SECONDS + 1,
)
STEPS = st.sampled_from([0, 1, 3, 9, 18, 99, 99])  # that an operation does before another one's turn


@dataclass(eq=False)
class Link:
    """One connection: as API Gateway sees it, and as its page does."""

    id: str
    page: "Page"
    expires_at: float
    state: Literal["PENDING", "OPEN", "CLOSED"] = "PENDING"
    heard: bool = True
    """The page has not given it up."""


@dataclass(frozen=True)
class Post:
    """An envelope on its way to a page."""

    link: Link
    envelope: dict[str, Any]


class Page:
    """One life of a page: its model of a client, its connections and its records."""

    def __init__(self, world: "System", name: str, user: str, model: type[StreamClient]) -> None:
        self.world, self.name, self.user = world, name, user
        self.model = model(self._done)
        self.rooms = [CHAT, inbox(user).name, f"dashboard_user_{user}", "all"]
        self.link: Link | None = None  # the one in use
        self.next: Link | None = None  # the one that is being made
        self.asking: Link | None = (
            None  # on which a join or a leave has no answer yet: the client asks for one
        )
        self.recorded = False
        self._answer: Position | None = None

    def position(self, room: str) -> Position | None:
        at = self.model.positions.get(room)
        return Position(at["epoch"], at["seq"]) if at else None

    # The connection

    def connect(self) -> None:
        """Open a connection and join the rooms. With one that is open already, take its place."""
        if self.next is not None or (self.link is not None and self.asking is self.link):
            return
        link = self.next = self.world.link(self)
        try:
            who = Identity(self.user, "user", "", "", int(link.expires_at), int(self.world.now))
            answer = self.world.functions.store.connections.connect(link.id, who)
            Operation.stop_here()  # the function has returned; API Gateway opens the connection
            if answer == "connected" and link.state == "PENDING":
                link.state = "OPEN"
                if link.heard:
                    self._enter(link, self.rooms)
        finally:
            if link.state == "PENDING" or self.next is link:
                link.state, link.heard = "CLOSED", False
                self.world.undelivered.append(link.id)
                self.next = None if self.next is link else self.next

    def _enter(self, link: Link, rooms: Iterable[str]) -> None:
        handover = self.link is not None
        if not handover:
            self.link, self.next = link, None
        wanted: list[dict[str, Any]] = [{"room": room} for room in rooms]
        self.asking = link
        [asked] = self.model.handle({"opened": wanted, "handover": handover})
        reply = self.act(link, "rooms:join", rooms=asked["join"])
        if reply is None:
            self.asking = None if self.asking is link else self.asking
            if self.link is link:
                self.cut()
            return
        for entry in reply["rooms"]:
            self._joined(entry)
        self.asking = None
        if handover and link.heard:  # the new one is good: the old one goes
            if self.link is not None:
                self.world.close(self.link)
            self.link, self.next = link, None

    def _joined(self, entry: dict[str, Any]) -> None:
        room = entry["room"]
        if room not in self.rooms:
            return  # it has left meanwhile
        if entry["success"]:
            told = {key: entry[key] for key in ("recovered", "wasRecovering")}
            last_value = {"lastValue": True} if entry["history"]["messages"] == 1 else {}
            at = Position(entry["epoch"], entry["seq"])
            self.world.record(self.name, "joined", room, at, **told, **last_value, user=self.user)
            self.recorded = True
        elif entry["code"] != "unavailable":
            self.world.record(self.name, "left", room)
        self._take("joined", entry)

    def enter(self) -> None:
        """Join the chat room on the connection that is there."""
        link = self.link
        if link is not None and self.asking is None and self.next is None and CHAT not in self.rooms:
            self.rooms.insert(0, CHAT)
            self.asking = link
            [asked] = self.model.handle({"opened": [{"room": CHAT}]})
            reply = self.act(link, "rooms:join", rooms=asked["join"])
            if reply is not None:
                for entry in reply["rooms"]:
                    self._joined(entry)
                self.asking = None
            elif self.link is link:
                self.cut()

    def leave(self) -> None:
        """Leave the chat room."""
        link = self.link
        if CHAT in self.rooms and self.asking is None and self.next is None:
            self.rooms.remove(CHAT)
            self.model.handle({"left": CHAT})
            if self.recorded:
                self.world.record(self.name, "left", CHAT)
            if link is not None:
                self.asking = link
                if self.act(link, "chat:leave_room", roomId="r1") is not None:
                    self.asking = None
                elif self.link is link:
                    self.cut()

    def cut(self, *, half_open: bool = False) -> None:
        """The connections are lost. Half-open: API Gateway does not know."""
        half_open = half_open and self.world.losses
        for link in (self.link, self.next):
            if link is not None:
                link.heard = False
                if not half_open:
                    self.world.close(link)
        self.link = self.next = self.asking = None
        if self.recorded:
            self.world.record(self.name, "closed")
        self.model.handle({"closed": True})

    def act(self, link: Link, action: str, **fields: Any) -> dict[str, Any] | None:
        """Ask for something; None where no answer came, or one that says that the connection has ended."""
        body = json.dumps({"action": action, "id": str(next(self.world.ticks)), **fields})
        reply, began = None, self.world.now
        try:
            reply = actions.handle(self.world.functions, link.id, body, int(self.world.now * 1000))
            Operation.stop_here()
        finally:
            if reply is None and link.heard and link is self.link:
                self.cut()
        if not link.heard or reply is None:
            return None
        if self.world.now - began > ANSWER_SECONDS:
            if link is self.link:
                self.cut()
            return None
        answer = json.loads(reply)
        if answer["event"] in ("error", "chat:error") and action != "rooms:history":
            return None
        return {"code": answer["data"].get("code"), **answer["data"]}

    # Messages

    def ask(self, link: Link, room: str, since: dict[str, Any]) -> None:
        """Read a page of the history."""
        answer = self.act(link, "rooms:history", room=room, since=since)
        if answer is not None and answer["code"] is None and link.heard:
            self._take("history", answer)
        elif self.link is not None:
            self.model.handle({"failed": room})

    def ping(self) -> None:
        """Ask where the rooms are."""
        if (link := self.link) is not None:
            answer = self.act(link, "ping", rooms=list(self.model.positions))
            if answer is not None and link is self.link:
                self.go_on(self.model.handle({"pong": answer["rooms"]}))

    def receive(self, post: Post) -> None:
        if post.link.heard:
            message = {key: post.envelope[key] for key in ("room", "seq", "epoch", "id")}
            self.go_on(self.model.handle({"message": message}))

    def wait(self, steps: int) -> None:
        """The reorder window ends."""
        self.go_on(self.model.handle({"wait": "long"}), steps)

    def go_on(self, outputs: list[dict[str, Any]], steps: int = 0) -> None:
        for output in outputs:
            if "ask" in output and self.link is not None:
                asked = output["ask"]
                self.world.start(partial(self.ask, self.link, asked["room"], asked["since"]), steps)

    def _take(self, kind: str, answer: dict[str, Any]) -> None:
        """Give the model an answer with messages."""
        if "epoch" in answer:
            self._answer = Position(answer["epoch"], answer["seq"])
            for message in answer["messages"]:
                self.world.check_age(answer["room"], message)
            messages = [{"seq": m["seq"], "id": m["id"]} for m in answer["messages"]]
            answer = {**answer, "messages": messages}
        self.go_on(self.model.handle({kind: answer}))

    def _done(self, output: dict[str, Any]) -> None:
        if "deliver" in output:
            message = output["deliver"]
            at = self.position(message["room"])
            assert at is not None
            place = Position(at.epoch, message["seq"])
            self.world.record(self.name, "delivered", message["room"], place, id=message["id"])
        elif "gap" in output:
            room, since = output["gap"], self.position(output["gap"])
            assert since is not None
            assert self._answer is not None
            self.world.check_gap(self.user, room, since, self._answer)
            self.world.record(self.name, "gap", room, self._answer)


class Gateway:
    """API Gateway and the network behind it."""

    def __init__(self, world: "System") -> None:
        self._world = world
        self.faults: deque[Literal["reset", "taken, then reset", "503"]] = deque()

    def post(self, connection_ids: Iterable[str], body: bytes, **_: Any) -> PostReport:
        report = PostReport()
        operation = Operation.current()
        asked_at = operation.at if operation else self._world.now
        for id_ in connection_ids:
            Operation.stop_here()
            link = self._world.links[id_]
            fault = self.faults.popleft() if self.faults and operation else None
            if fault == "503":
                report.settle(id_, Outcome.FAILED, Failure(status=503))
            elif fault == "reset":
                report.settle(id_, Outcome.UNKNOWN, Failure("ConnectionResetError"))
            elif link.state != "OPEN":
                report.settle(id_, Outcome.GONE)
            else:
                if "seq" in (sent := json.loads(body)):  # and not an error
                    assert asked_at < link.expires_at + 1, f"{id_} gets what was sent after its token's end"
                    self._world.net.append(Post(link, sent))
                lost = fault == "taken, then reset"
                failure = Failure("ConnectionResetError") if lost else None
                report.settle(id_, Outcome.UNKNOWN if lost else Outcome.SENT, failure)
        return report

    def post_pages(self, pages: Iterable[Iterable[str]], body: bytes, **_: Any) -> PostReport:
        return self.post([id_ for page in list(pages) for id_ in page], body)

    def delete(self, connection_ids: Iterable[str], **_: Any) -> PostReport:
        report = PostReport()
        for id_ in connection_ids:
            link = self._world.links[id_]
            self._world.close(link)
            if link is link.page.link:
                link.page.cut()
            report.settle(id_, Outcome.SENT)
        return report

    has_sent = True

    def close(self) -> None: ...


@dataclass
class Right:
    """What a user may do in the chat room, and the change that is being made."""

    granted: bool = False
    changing: Operation | None = None
    wanted: bool = False
    before: Position | None = None
    """The position before the first try of the change."""
    since: list[Position] = field(default_factory=list)
    """The positions after which grants may have begun."""


class System(QueueMachine):
    """The machine."""

    history_class: ClassVar[type[History]] = History
    page_class: ClassVar[type[StreamClient]] = StreamClient
    patches: ClassVar[dict[str, Any]] = {}
    """Names in the product, and what is there while the machine runs."""
    bad_days: ClassVar[tuple[Any, ...]] = (
        *Fault,
        "reset",
        "taken, then reset",
        "503",
        "death",
        "stale reads",
    )
    times: ClassVar[tuple[float, ...]] = TIMES
    losses: ClassVar[bool] = True
    """Whether posts get lost, and connections are half-open."""
    harmless: ClassVar[tuple[object, ...]] = ("stale reads",)
    """Bad days after which whoever is in a room still has to get everything without coming back."""
    sent_to: ClassVar[tuple[str, ...]] = (CHAT, CHAT, CHAT, "user_ann", "dashboard_user_ann", "all")
    """To what backends send."""
    senders: ClassVar[tuple[int, ...]] = (0, 1, 2)
    """The backends that send. Some have a queue."""
    client_class: ClassVar[type[SignedClient]] = SignedClient

    def __init__(self) -> None:
        super().__init__(START)
        self.db = FakeDynamoDB()
        create_tables(self.db)
        self.faults: deque[Fault] = deque()
        self.db.fault = lambda _: self.faults.popleft() if self.faults and Operation.current() else None
        self.records: list[str] = []
        self.links: dict[str, Link] = {}
        self.net: list[Post] = []
        self.undelivered: list[str] = []  # `$disconnect` events to come
        self.appended: dict[tuple[str, str], Position] = {}
        self.put_at: dict[tuple[str, Position], float] = {}
        self.helped_at: dict[str, float] = {}  # a dead sender's message begins its retention then
        self.given: dict[str, tuple[str, float]] = {}  # ids of backends, by room, and when they were given
        self.rights = {user: Right() for user in USERS}
        self.count, self.backup, self.restored = 0, None, False
        self.clean = True  # nothing has happened for which a post may fail
        self.gateway, world = Gateway(self), self
        queue: Any = self.queue
        gateway: Any = self.gateway

        class Watched(self.history_class):  # type: ignore[misc,name-defined]
            """Notes what is put, and what is appended where."""

            def append(
                self, stream: str, message_id: str, build: Any, retention: Any, **more: Any
            ) -> Position:
                def noted(at: Position) -> str:
                    world.put_at[stream, at] = world.now
                    return str(build(at))

                at: Position = super().append(stream, message_id, noted, retention, **more)
                world.appended[stream, message_id] = at
                return at

            def _help(self, stream: str, *arguments: Any) -> bool:
                world.helped_at[stream] = world.now
                return bool(super()._help(stream, *arguments))

        def store() -> Store:
            client: Any = self.client_class(self.db, lambda: self.now)
            tables = Tables(client, "connections", "rooms", history="history", clock=lambda: self.now)
            made = Store(tables, ROOMS)
            made.history = Watched(tables, "history")
            return made

        limits = SendLimits(direct=1, job_receivers=1, split=2)
        self.services = [
            WebSocketService(store(), gateway, with_queue, limits=limits, clock=lambda: self.now)
            for with_queue in (None, None, queue, queue)
        ]
        # A stalled action may look like a flood: that is another machine's subject.
        stage = Settings(
            connections_table="connections", rooms_table="rooms", rooms=ROOMS, actions_burst=10**6
        )
        self.functions = Wiring(stage)
        self.functions.store = store()
        self.functions.management_api = gateway
        self.worker = Worker(store(), gateway, queue, limits=limits, clock=lambda: self.now)
        patches = {
            **self.own_world(self._sleep),
            "roomcast.functions.joining.MAX_PAGE": PAGE,
            "roomcast.functions.joining.side_by_side": one_by_one,
            **self.patches,
        }
        self._patches = [mock.patch(name, value) for name, value in patches.items()]
        for patch in self._patches:
            patch.start()
        self.pages = [
            Page(self, name, user, self.page_class)
            for name, user in zip("abc", ["ann", "bob", "ann"], strict=True)
        ]

    # What all use

    def _sleep(self, seconds: float) -> None:
        Operation.stop_here()
        self.now += seconds

    def link(self, page: Page) -> Link:
        link = Link(f"c{len(self.links)}=", page, self.now + TOKEN_SECONDS)
        self.links[link.id] = link
        return link

    def close(self, link: Link) -> None:
        """API Gateway closes a connection."""
        if link.state == "OPEN":
            self.undelivered.append(link.id)
        link.state, link.heard = "CLOSED", False

    def record(self, who: str, what: str, room: str = "", at: Position | None = None, **more: Any) -> None:
        where = {"room": room} if room else {}
        place = {"epoch": at.epoch, "seq": at.seq} if at is not None else {}
        self.records.append(json.dumps({"who": who, "what": what, **where, **place, **more}))

    def head(self, room: str) -> Position:
        """Where a stream is."""
        at = self.services[0].position(room)
        assert at is not None
        return at

    # What people do

    @initialize()
    def begin(self) -> None:
        for user in USERS:
            self.permission(user, give=True, steps=99)
        for choice in range(len(self.pages)):
            self.connect(choice, steps=99)

    @rule(choice=st.integers(0, 2), steps=STEPS)
    def connect(self, choice: int, steps: int) -> None:
        """A page connects, or takes over from its old connection."""
        self.start(self.pages[choice].connect, steps)

    @rule(choice=st.integers(0, 2), half_open=st.booleans())
    def cut(self, choice: int, half_open: bool) -> None:
        self.pages[choice].cut(half_open=half_open)

    @rule(choice=st.integers(0, 2), steps=STEPS)
    def leave(self, choice: int, steps: int) -> None:
        self.start(self.pages[choice].leave, steps)

    @rule(choice=st.integers(0, 2), steps=STEPS)
    def enter(self, choice: int, steps: int) -> None:
        self.start(self.pages[choice].enter, steps)

    @precondition(lambda self: self.undelivered)
    @rule(choice=st.integers(0, 5), lost=st.booleans(), steps=STEPS)
    def disconnect_event(self, choice: int, lost: bool, steps: int) -> None:
        id_ = self.undelivered.pop(choice % len(self.undelivered))
        if not lost:
            self.start(lambda: self.functions.store.connections.disconnect(id_, self.now), steps)

    @rule(
        process=st.integers(0, 2),
        which=st.integers(0, 5),
        kind=st.sampled_from(["new", "new", "given", "again"]),
        steps=STEPS,
    )
    def send(self, process: int, which: int, kind: str, steps: int) -> None:
        """A backend sends. A send with an id of its own may come a second time within the retention."""
        self.count += 1
        to = self.sent_to[which]
        given, at = self.given.get(to, ("", 0.0))
        if kind == "given" or (kind == "again" and self.now - at > HOUR - STALE):
            given, at = self.given[to] = f"given{self.count}", self.now
        id_ = given if kind != "new" and given else None
        service = self.services[self.senders[process]]

        def code() -> None:
            if id_ is not None and self.now - at > HOUR - STALE:
                return  # so late it would be another message
            try:
                report = service.send_to_room(to, "e", {"n": self.count}, id=id_)
            except (RoomcastError, ClientError, BotoCoreError):  # it may be appended, and not posted
                self.clean = False
                raise
            self.record("backend", "appended", to, self.appended[to, report.id], id=report.id)

        self.start(code, steps)

    @precondition(lambda self: self.queue.visible())
    @rule(choice=st.integers(0, 5), steps=STEPS)
    def work(self, choice: int, steps: int) -> None:
        visible = self.queue.visible()
        self.take(visible[choice % len(visible)], steps)

    @precondition(lambda self: self.net)
    @rule(choice=st.integers(0, 9), lost=st.sampled_from([False, False, True]))
    def arrive(self, choice: int, lost: bool) -> None:
        far = choice // 2 % len(self.net)
        post = self.net.pop(far if choice % 2 else -1 - far)  # one of the oldest, or of the newest
        if lost and self.losses:
            self.clean = False
        else:
            post.link.page.receive(post)

    @precondition(lambda self: self.net)
    @rule()
    def arrive_all(self) -> None:
        while self.net:
            self.arrive(1, lost=False)

    @rule(choice=st.integers(0, 2), steps=STEPS)
    def wait(self, choice: int, steps: int) -> None:
        self.pages[choice].wait(steps)

    @rule(choice=st.integers(0, 2), steps=STEPS)
    def ping(self, choice: int, steps: int) -> None:
        self.start(self.pages[choice].ping, steps)

    @rule(user=st.sampled_from(USERS), give=st.booleans(), steps=STEPS)
    def permission(self, user: str, give: bool, steps: int) -> None:
        """A right is given or taken back; one that failed is changed again before anything else."""
        right = self.rights[user]
        if right.changing is not None and right.changing.ended is None:
            return
        if right.before is None:
            right.wanted, right.before = give, self.head(CHAT)
        if right.wanted:
            right.since.append(right.before)

        def code() -> None:
            change = self.services[0].grant_room if right.wanted else self.services[0].revoke_room
            change(CHAT, user)
            at = right.before if right.wanted else self.head(CHAT)
            right.granted = right.wanted
            self.record("backend", "granted" if right.wanted else "revoked", CHAT, at, user=user)
            if right.wanted:
                right.since.append(self.head(CHAT))
            right.before = None

        right.changing = self.start(code, steps)

    @rule(which=st.integers(0, 59))
    def pass_time(self, which: int) -> None:
        self.now += self.times[which % len(self.times)]

    @rule(choice=st.integers(0, 3))
    def expire(self, choice: int) -> None:
        """DynamoDB deletes some of what has expired."""
        for table in ("history", "rooms", "connections"):
            expire(self.db, self.now, lambda n: choice in (3, n % 3), table=table)

    @rule()
    def back_up(self) -> None:
        if self.backup is None:
            self.backup = self.db.scan(TableName="history")["Items"]

    @precondition(lambda self: not self.restored)
    @rule(empty=st.booleans())
    def restore(self, empty: bool) -> None:
        """The table is made again: from the backup, where each stream then begins another life, or empty."""
        items: list[Any] | None = [] if empty else self.backup
        if items is None:
            return
        self.restored, self.clean = True, False
        self.kill_all()
        self.collect()
        self.now += 2 * STALE  # as long at least does it take
        rooms = set()
        for item in self.db.scan(TableName="history")["Items"]:
            rooms.add(self.key_room(item))
            self.db.delete_item(TableName="history", Key={key: item[key] for key in ("stream", "seq")})
        for item in items:
            self.db.put_item(TableName="history", Item=item)
        history = self.services[0]._store.history
        assert history is not None
        for room in sorted(room for room in rooms if room and not empty):
            history.new_epoch(room)
        for user, right in self.rights.items():  # as the checker knows rights by position
            at = self.head(CHAT)
            self.record("backend", "granted" if right.granted else "revoked", CHAT, at, user=user)
            right.before = at if right.before is not None else None
            right.since.append(at)

    @staticmethod
    def key_room(item: dict[str, Any]) -> str:
        stream = str(item["stream"]["S"])
        return stream.removeprefix("head#") if stream.startswith("head#") else ""

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 7), steps=STEPS.filter(bool))
    def go_on(self, choice: int, steps: int) -> None:
        self.step(self.running[choice % len(self.running)], steps)

    @precondition(lambda self: self.bad_days)
    @rule(which=st.integers(0, 59), choice=st.integers(0, 7))
    def bad_day(self, which: int, choice: int) -> None:
        """What happens to the next calls, to a process, or to reads that are not consistent."""
        day = self.bad_days[which % len(self.bad_days)]
        self.clean &= day in self.harmless
        if isinstance(day, Fault):
            self.faults.extend([day] * (1 + choice % 3))
        elif day == "death":
            self.kill(choice)
        elif day == "stale reads":
            self.db.reads_lag = not self.db.reads_lag
        else:
            self.gateway.faults.append(day)

    # What must hold

    def check_age(self, room: str, message: dict[str, Any]) -> None:
        """Whoever reads applies the retention, whatever DynamoDB has deleted."""
        put_at = self.put_at[room, Position(message["epoch"], message["seq"])]
        put_at = max(put_at, self.helped_at.get(room, 0)) + STALE + SIGNED_FOR
        kept = ROOMS.parse(room).history
        assert kept is not None
        old = self.now - put_at > kept.seconds
        assert not old, f"{room} {message['seq']} is shown after its retention"

    def check_gap(self, user: str, room: str, since: Position, now_at: Position) -> None:
        """A gap has a reason: another epoch, a later grant, more messages than are kept, or older ones."""
        kept = ROOMS.parse(room).history
        assert kept is not None
        if since.epoch != now_at.epoch or now_at.seq - since.seq > kept.messages:
            return
        if room == CHAT and any(
            at.epoch != since.epoch or at.seq > since.seq for at in self.rights[user].since
        ):
            return
        missed = [(room, Position(since.epoch, seq)) for seq in range(since.seq + 1, now_at.seq + 1)]
        assert all(at in self.put_at for at in missed), "a number without a message"
        oldest = min((self.put_at[at] for at in missed), default=self.now)
        assert self.now - oldest > kept.seconds - SIGNED_FOR - STALE, "a gap without a reason"

    def teardown(self) -> None:
        try:
            self.finish()
            self.faults.clear()
            self.gateway.faults.clear()
            self.db.reads_lag = False
            for user, right in self.rights.items():
                if right.before is not None:
                    self.permission(user, give=right.wanted, steps=99)
                    self.finish()
            self._drain()
            self._check_quiet()
            for page in self.pages:
                page.cut()
                self.start(page.connect, 0)
                self.finish()
                page.wait(0)
                self.finish()
            self._check()
        finally:
            self.kill_all()
            for patch in self._patches:
                patch.stop()

    def _check_quiet(self) -> None:
        """Whoever is in a room has all of it without coming back, if no post has failed."""
        for _ in range(3):
            while self.net:
                post = self.net.pop(0)
                post.link.page.receive(post)
            self.finish()
            for page in self.pages:
                page.wait(0)
            self.finish()
        if self.clean and all(link.expires_at > self.now for link in self.links.values()):
            self._judge()

    def _drain(self) -> None:
        for _ in range(200):
            if not self.queue.messages:
                return
            message = min(self.queue.messages.values(), key=lambda m: m.visible_at)
            self.now += max(0.0, message.visible_at - self.now)
            self.take(message, 0)
            self.finish()
        raise AssertionError("a job is never done")

    def _judge(self) -> None:
        verdict = check(read(self.records, "records"), complete=True)
        for violation in verdict.violations:
            if self._has_expired(violation.excerpt[0]):
                continue
            excerpt = "\n".join(record.text for record in violation.excerpt)
            raise AssertionError(f"{INVARIANTS[violation.invariant]}: {violation.message}\n{excerpt}")

    def _has_expired(self, record: Record) -> bool:
        """Whether a violation is about a last value that nobody can have any more: records do not say so."""
        kept = ROOMS.parse(record.room).history if "room" in record.fields else None
        if kept is None or kept.messages > 1 or record.fields["what"] != "appended":
            return False
        return self.now - self.put_at[record.room, Position(*record.place)] > kept.seconds - STALE

    def _check(self) -> None:
        rooms = {room for page in self.pages for room in page.rooms}
        for room in rooms:
            kept = self.services[0].history(room)
            assert kept is not None
            messages = [{"seq": message.seq, "id": message.id} for message in kept.messages]
            if messages:
                self.record("backend", "history", room, kept.position, messages=messages)
        self._judge()
        for page in self.pages:
            for room in page.rooms:
                if room == CHAT and not self.rights[page.user].granted:
                    assert page.position(room) is None, f"{page.name} is in a room without a grant"
                else:
                    assert page.position(room) == self.head(room), f"{page.name} is behind in {room}"


def one_by_one(do: Callable[[Any], object], items: Iterable[Any]) -> list[Exception]:
    """`side_by_side` on the thread of the operation, so that each call is a step."""
    failures = []
    for item in items:
        try:
            do(item)
        except Exception as error:  # noqa: BLE001  as `side_by_side` does
            failures.append(error)
    return failures
