"""State stays right in any interleaving, and on the platform's bad days.

Connects, closes, joins, leaves, grants, revocations, refreshed tokens, sends and time, in any order. Each
operation runs the real code on a thread of its own that stops before every call to DynamoDB, to SQS, to the
management API and to the clock; Hypothesis decides whose turn it is, which call is throttled, meets another
transaction or loses its answer, and which process dies. The index of users lags, a backend's clock is wrong,
some clients are too slow, `$disconnect` events come late, twice or never. API Gateway is a model with the
three states PENDING, OPEN and CLOSED: a connection that is closed before it is open opens all the same.

Classes that `World` makes its objects of, and the rules that it has, may be replaced: `test_seeded_faults.py`
shows so that the machine finds faults.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)

from roomcast.connection import YOUNG_SECONDS, Identity
from roomcast.functions import actions
from roomcast.management_api.report import Failure, Outcome, PostReport
from roomcast.sending.job import SendLimits
from roomcast.sending.sender import SendReport
from roomcast.sending.worker import Worker
from roomcast.service import WebSocketService
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.items import grant_key
from roomcast.store.large_rooms import partitions
from roomcast.wiring import Wiring
from tests.builders import APP, chat, create_tables
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.support.queue_model import VISIBILITY, QueueMachine
from tests.support.stepping import Operation, SteppedClient

CHAT = chat("r1")
USERS = ("ann", "bob")
PING = json.dumps({"action": "ping"})
STEPS = st.sampled_from([0, 1, 2, 99])  # that an operation does before another one's turn
START = 1_800_000_000.0
TOKEN_SECONDS = 300
LONGEST_CALL = 60.0  # s; whoever is stalled for longer is taken for dead
FUNCTION_SECONDS = 10.0  # the time limit of `$connect`
OPENS_WITHIN = 0.5  # s; after the function has returned
INDEX_LAG = 1.0  # s; what `revoke_user` allows for
SKEW = 10.0  # s; how far a backend's clock may be off, as in the leeway of tokens
CLOSES_WITHIN = 6.0  # s; for which closing a connection that is not open yet is tried again


@dataclass
class Browser:
    """One connection as the client and API Gateway see it."""

    user_id: str
    state: Literal["PENDING", "OPEN", "CLOSED"]
    expires_at: float  # the latest end that a token may have given it
    sure_until: float  # the end of the newest token that it surely has
    accepted_at: float
    issued_at: int
    answer: str = "502"  # of a function that raises or dies: API Gateway opens nothing
    returned_at: float = math.inf
    opened_at: float = math.inf
    not_closed_at: float = math.inf  # the first time that it was to be closed and was not open yet
    connect: Operation | None = None
    left: bool = False  # the client has gone, or asked to
    slow: bool = False  # its buffer is full: 429 to every post
    lapsed: bool = False  # its token had ended before a newer one came
    got: dict[int, float] = field(default_factory=dict)  # number of a send: when it, or its job, began

    def open(self, now: float) -> None:
        """What API Gateway does with the function's answer."""
        if self.state == "PENDING":
            self.opened_at = now
            self.state = "OPEN" if self.answer in ("connected", "disconnected") else "CLOSED"


class ManagementApiModel:
    """API Gateway with its three states, and with bad days."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.faults: deque[Literal["reset", "taken, then reset", "503"]] = deque()

    def post(self, connection_ids: Iterable[str], body: bytes, **_: Any) -> PostReport:
        report = PostReport()
        number = json.loads(body).get("data", {}).get("n")
        operation = Operation.current()
        asked_at = operation.at if operation else self._world.now
        for connection_id in connection_ids:
            Operation.stop_here()
            browser = self._world.browsers[connection_id]
            fault = self.faults.popleft() if self.faults and Operation.current() else None
            if fault == "503":
                report.settle(connection_id, Outcome.FAILED, Failure(status=503))
            elif fault == "reset":
                report.settle(connection_id, Outcome.UNKNOWN, Failure("ConnectionResetError"))
            elif browser.state != "OPEN":
                report.settle(connection_id, Outcome.GONE)
            elif browser.slow:
                report.settle(connection_id, Outcome.FAILED, Failure("LimitExceededException", 429))
            else:
                if number is not None:
                    browser.got.setdefault(number, asked_at)
                lost = fault == "taken, then reset"
                failure = Failure("ConnectionResetError") if lost else None
                report.settle(connection_id, Outcome.UNKNOWN if lost else Outcome.SENT, failure)
        return report

    def post_pages(self, pages: Iterable[Iterable[str]], body: bytes, **_: Any) -> PostReport:
        return self.post([id_ for page in list(pages) for id_ in page], body)

    def delete(self, connection_ids: Iterable[str], **_: Any) -> PostReport:
        report = PostReport()
        for connection_id in connection_ids:
            Operation.stop_here()
            browser = self._world.browsers[connection_id]
            if browser.state == "OPEN":
                browser.state = "CLOSED"
                self._world.undelivered.append(connection_id)
                report.settle(connection_id, Outcome.SENT)
            else:  # 410, of one that is not open yet too: that one opens all the same
                if browser.state == "PENDING":
                    browser.not_closed_at = min(browser.not_closed_at, self._world.now)
                report.settle(connection_id, Outcome.GONE)
        return report

    def close(self) -> None: ...


@dataclass
class Join:
    connection_id: str
    operation: Operation

    @property
    def may_have_worked(self) -> bool:
        return not self.operation.done or self.worked

    @property
    def worked(self) -> bool:
        reply = self.operation.result  # None where the connection was closed after an error
        return (
            self.operation.done and reply is not None and json.loads(reply)["event"].endswith("joined_room")
        )


@dataclass
class Send:
    number: int
    to: Literal["room", "bob", "all"]
    operation: Operation
    at: float


class World(QueueMachine):
    """The machine."""

    store_class: ClassVar[type[Store]] = Store
    service_class: ClassVar[type[WebSocketService]] = WebSocketService
    worker_class: ClassVar[type[Worker]] = Worker
    patches: ClassVar[dict[str, Any]] = {}
    """Names in the product, and what is there while the machine runs."""
    bad_days: ClassVar[tuple[Any, ...]] = (
        *Fault,
        "reset",
        "taken, then reset",
        "503",
        "death",
        "lag",
        "slow client",
    )
    skews: ClassVar[tuple[float, ...]] = (0.0, -SKEW, SKEW)
    pauses: ClassVar[tuple[float, ...]] = (
        0.1,
        INDEX_LAG,
        YOUNG_SECONDS + 1,
        VISIBILITY + 1,
        TOKEN_SECONDS,
    )

    def __init__(self) -> None:
        super().__init__(START)
        self.db = FakeDynamoDB()
        create_tables(self.db)
        self.db.fault = self._fault
        self.faults: deque[Fault] = deque()
        self.had_faults = False
        self.skew, self.lagging_since = 0.0, START
        self.browsers: dict[str, Browser] = {}
        self.joins: list[Join] = []
        self.ends: list[tuple[str, Operation]] = []  # leaves and revocations of a member
        self.sends: list[Send] = []
        self.revocations: list[tuple[str, Operation]] = []
        self.again: list[tuple[Operation, Callable[[], Any]]] = []  # what a caller does again after an error
        self.undelivered: list[str] = []  # `$disconnect` events to come
        self.disconnects: list[tuple[str, Operation]] = []  # those that came
        self.api = ManagementApiModel(self)
        client: Any = SteppedClient(self.db)
        api: Any = self.api
        queue: Any = self.queue
        tables = Tables(client, "connections", "rooms", clock=lambda: self.now)
        self.store = self.store_class(tables, APP.rooms)
        backend = Tables(client, "connections", "rooms", clock=self._backend_clock)
        limits = SendLimits(direct=1, job_receivers=1, split=2)
        self.direct, self.queued = (
            self.service_class(
                self.store_class(backend, APP.rooms),
                api,
                job_queue,
                limits=limits,
                index_lag=INDEX_LAG,
                clock=self._backend_clock,
            )
            for job_queue in (None, queue)
        )
        self.worker = self.worker_class(
            self.store,
            api,
            queue,
            limits=limits,
            clock=lambda: self.now,
        )
        stage = Settings(connections_table="connections", rooms_table="rooms", actions_per_second=1000)
        self.wiring = Wiring(stage)
        self.wiring.store = self.store
        self.wiring.management_api = api
        self.wiring.application = APP
        self._patches: list[Any] = [
            mock.patch(name, value) for name, value in {**self.own_world(self._wait), **self.patches}.items()
        ]
        for patch in self._patches:
            patch.start()

    def _backend_clock(self) -> float:
        return self.now + self.skew

    def _fault(self, operation: str) -> Fault | None:
        return self.faults.popleft() if self.faults and Operation.current() else None

    def _wait(self, seconds: float) -> None:
        Operation.stop_here()
        self._advance(seconds)

    def _advance(self, seconds: float) -> None:
        self.now += seconds
        connects = [browser.connect for browser in self.browsers.values()]
        for operation in self.running:
            longest = FUNCTION_SECONDS if operation in connects else LONGEST_CALL
            if operation is not Operation.current() and self.now - operation.at > longest:
                operation.kill(next(self.ticks))
        for browser in self.browsers.values():
            if self.now - browser.returned_at >= OPENS_WITHIN:
                browser.open(self.now)
            browser.lapsed |= browser.state == "OPEN" and self.now >= browser.sure_until
        if self.db.index_lags and self.now - self.lagging_since >= INDEX_LAG:
            self.db.index_lags = False
            self.db.catch_up()

    # What people do

    @initialize(which=st.integers(0, 5))
    def begin(self, which: int) -> None:
        """Both are in the room, each with a connection: most faults need that much to show."""
        self.skew = self.skews[which % len(self.skews)]
        for user_id in USERS:
            self.permission(user_id, give=True, steps=99)
            self.connect(user_id, steps=99)
            self.join(len(self.browsers) - 1, steps=99)

    @precondition(lambda self: len(self.browsers) < 5)
    @rule(user_id=st.sampled_from(USERS), steps=STEPS)
    def connect(self, user_id: str, steps: int) -> None:
        connection_id = f"c{len(self.browsers)}="
        browser = Browser(
            user_id,
            "PENDING",
            self.now + TOKEN_SECONDS,
            self.now + TOKEN_SECONDS,
            self.now,
            int(self.now),
        )
        self.browsers[connection_id] = browser
        who = Identity(user_id, "user", "", "", int(browser.expires_at), browser.issued_at)

        def code() -> str:
            try:
                browser.answer = self.store.connections.connect(connection_id, who)
                browser.returned_at = self.now
                Operation.stop_here()  # the function has returned; API Gateway opens the connection
            finally:
                browser.open(self.now)
            return browser.answer

        browser.connect = self.start(code, steps)

    def _pick(self, choice: int, *states: str) -> str | None:
        ids = [i for i, browser in self.browsers.items() if browser.state in states]
        return ids[choice % len(ids)] if ids else None

    @rule(choice=st.integers(0, 5), events=st.sampled_from([0, 1, 1, 2]))
    def close(self, choice: int, events: int) -> None:
        """The client goes; its `$disconnect` comes once, twice or never."""
        connection_id = self._pick(choice, "OPEN", "PENDING")
        if connection_id is not None:
            self.browsers[connection_id].state = "CLOSED"
            self.browsers[connection_id].left = True
            self.undelivered += [connection_id] * events

    @precondition(lambda self: self.undelivered)
    @rule(choice=st.integers(0, 5), steps=STEPS)
    def disconnect_event(self, choice: int, steps: int) -> None:
        connection_id = self.undelivered.pop(choice % len(self.undelivered))

        accepted_at = self.browsers[connection_id].accepted_at
        code = lambda: self.store.connections.disconnect(connection_id, accepted_at)  # noqa: E731
        self.disconnects.append((connection_id, self.start(code, steps)))

    def _act(self, connection_id: str, steps: int, action: str) -> Operation:
        message = json.dumps({"action": action, "roomId": CHAT.key})
        return self.start(lambda: actions.handle(self.wiring, connection_id, message), steps)

    @rule(choice=st.integers(0, 5), steps=STEPS)
    def join(self, choice: int, steps: int) -> None:
        connection_id = self._pick(choice, "OPEN")
        if connection_id is not None:
            operation = self._act(connection_id, steps, "chat:join_room")
            self.joins.append(Join(connection_id, operation))

    @rule(choice=st.integers(0, 5), steps=STEPS)
    def leave(self, choice: int, steps: int) -> None:
        connection_id = self._pick(choice, "OPEN")
        if connection_id is not None:
            operation = self._act(connection_id, steps, "chat:leave_room")
            self.ends.append((connection_id, operation))

    @rule(choice=st.integers(0, 5), steps=STEPS)
    def refresh(self, choice: int, steps: int) -> None:
        """`auth:refresh`, past its token."""
        connection_id = self._pick(choice, "OPEN")
        if connection_id is None:
            return
        browser = self.browsers[connection_id]
        expires_at = int(self.now) + TOKEN_SECONDS
        who = Identity(browser.user_id, "user", "", "", expires_at, int(self.now))

        def code() -> None:
            connection = self.store.connections.get(connection_id)
            if connection is not None:
                # From the first write on it may live that long.
                browser.expires_at = max(browser.expires_at, expires_at)
                if self.store.connections.extend(connection, who):
                    browser.sure_until = max(browser.sure_until, expires_at)

        self.start(code, steps)

    @rule(user_id=st.sampled_from(USERS), give=st.booleans(), steps=STEPS)
    def permission(self, user_id: str, give: bool, steps: int) -> None:
        """A grant for the room, given or taken back."""
        if give:
            self.start(lambda: self.direct.grant_room(CHAT.name, user_id), steps)
            return
        code = lambda: self.direct.revoke_room(CHAT.name, user_id)  # noqa: E731
        operation = self.start(code, steps)
        self.again.append((operation, code))
        self.ends += [(i, operation) for i, browser in self.browsers.items() if browser.user_id == user_id]

    @precondition(lambda self: len(self.revocations) < 1)
    @rule(user_id=st.sampled_from(USERS), steps=STEPS)
    def revoke_user(self, user_id: str, steps: int) -> None:
        code = lambda: self.direct.revoke_user(user_id)  # noqa: E731
        operation = self.start(code, steps)
        self.again.append((operation, code))
        self.revocations.append((user_id, operation))

    @rule(to=st.sampled_from(["room", "room", "bob", "all"]), queued=st.booleans(), steps=STEPS)
    def send(self, to: Literal["room", "bob", "all"], queued: bool, steps: int) -> None:
        number, service = len(self.sends), self.queued if queued else self.direct
        code: Callable[[], Any] = {
            "room": lambda: service.send_to_room(CHAT.name, "e", {"n": number}),
            "bob": lambda: service.send_to_user("bob", "e", {"n": number}),
            "all": lambda: service.broadcast("e", {"n": number}),
        }[to]
        at = self.now
        self.sends.append(Send(number, to, self.start(code, steps), at))

    @precondition(lambda self: self.queue.visible())
    @rule(choice=st.integers(0, 5), steps=STEPS)
    def work(self, choice: int, steps: int) -> None:
        visible = self.queue.visible()
        self.take(visible[choice % len(visible)], steps)

    @precondition(lambda self: self.now < START + 2 * TOKEN_SECONDS)
    @rule(which=st.integers(0, 59))
    def pass_time(self, which: int) -> None:
        self._check_live()
        self._advance(self.pauses[which % len(self.pauses)])

    @precondition(lambda self: self.running)
    @rule(choice=st.integers(0, 7), steps=STEPS.filter(bool))
    def go_on(self, choice: int, steps: int) -> None:
        self.step(self.running[choice % len(self.running)], steps)

    @precondition(lambda self: self.bad_days)
    @rule(which=st.integers(0, 59), choice=st.integers(0, 7))
    def bad_day(self, which: int, choice: int) -> None:
        """What happens to the next calls, to a process, to the index, or to a client."""
        day = self.bad_days[which % len(self.bad_days)]
        if isinstance(day, Fault):
            self.faults.extend([day] * (1 + choice % 3))
            self.had_faults = True
        elif day == "death":
            self.kill(choice)
        elif day == "lag":
            if not self.db.index_lags:
                self.db.index_lags, self.lagging_since = True, self.now
        elif day == "slow client":
            if connection_id := self._pick(choice, "OPEN"):
                self.browsers[connection_id].slow = True
        else:
            self.api.faults.append(day)

    # What must hold

    def _check_live(self) -> None:
        """What is forgotten stays so: it is enough to look before time passes and at the end."""
        kept = self._rows("connections")
        for connection_id, browser in self.browsers.items():
            if browser.state == "OPEN" and self.now < browser.expires_at and not self._is_closing(browser):
                assert connection_id in kept, f"{connection_id} is open and was forgotten"

    def _is_closing(self, browser: Browser) -> bool:
        """Whether a revocation that runs, or was cut short, may be about to close it."""
        running = any(u == browser.user_id and not o.done for u, o in self.revocations)
        return browser.left or running or self._closes_by_its_next_message(browser)

    def _closes_by_its_next_message(self, browser: Browser) -> bool:
        """Whether a revocation may leave it open and unknown: the process died between the items and the
        closes, or API Gateway opened it later than closing it is tried."""
        died = any(user == browser.user_id and operation.died for user, operation in self.revocations)
        tried_for = CLOSES_WITHIN if not self.had_faults else 1.0  # a fault uses some of the time up
        return died or browser.opened_at - browser.not_closed_at > tried_for

    def _rows(self, table: str) -> dict[str, Any]:
        """By connection, or by member: of the chat room and its partitions, and of nothing else."""
        key = {"connections": "connectionId", "rooms": "member"}[table]
        rooms = (None, CHAT.name, *partitions(CHAT))  # throttled for a second, a room is spread
        rows: dict[str, Any] = {}
        for item in self.db.scan(TableName=table)["Items"]:
            if item.get("room", {}).get("S") in rooms:
                assert item[key]["S"] not in rows, f"{item[key]['S']} is a member at two places"
                rows[item[key]["S"]] = item
        return rows

    def _members(self, items: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Those of a room's items that are members, by connection."""
        kind = "connection#"
        return {
            item["member"]["S"].removeprefix(kind): item
            for item in items
            if item.get("member", {}).get("S", "").startswith(kind) and item["member"]["S"] != kind
        }

    def teardown(self) -> None:
        try:
            self.finish()
            self.faults.clear()
            self.api.faults.clear()
            self._check_live()
            self._drain()
            for operation, code in self.again:
                if not operation.done:
                    self._call(code)
            self._check_sends()
            self._check_quiet()
        finally:
            self.kill_all()
            for patch in self._patches:
                patch.stop()

    def _call(self, code: Callable[[], Any]) -> Any:
        operation = self.start(code, 0)
        while operation.ended is None:
            self.step(operation, 99)
        if operation.error is not None:
            raise AssertionError("an error without a fault") from operation.error
        return operation.result

    def _drain(self) -> None:
        for _ in range(200):
            if not self.queue.messages:
                return
            message = min(self.queue.messages.values(), key=lambda m: m.visible_at)
            self._advance(max(0.0, message.visible_at - self.now))
            record = self.queue.receive(message)
            if self._call(lambda record=record: self.worker.run(record)):  # type: ignore[misc]
                del self.queue.messages[message.id]
        raise AssertionError("a job is never done")

    def _check_sends(self) -> None:
        for send in self.sends:
            report: SendReport | None = send.operation.result
            got = {i for i, browser in self.browsers.items() if send.number in browser.got}
            if report is not None and not report.queued:
                assert report.sent <= len(got) <= report.sent + report.unknown, "the report is wrong"
            for connection_id, browser in self.browsers.items():
                if connection_id in got:
                    assert self._may_get(send, connection_id), f"{connection_id} got what was not for it"
                    late = browser.got[send.number] - browser.expires_at
                    assert late < SKEW + 1, f"{connection_id} got it after its token's end"
                elif self._is_well(browser) and report is not None and not report.unknown + report.failed:
                    assert not self._must_get(send, connection_id), f"{connection_id} did not get it"

    def _is_well(self, browser: Browser) -> bool:
        return browser.state == "OPEN" and not browser.slow and not browser.lapsed

    def _may_get(self, send: Send, connection_id: str) -> bool:
        browser = self.browsers[connection_id]
        began = send.operation.began
        if any(_is_between(o, browser.connect, began) for u, o in self.revocations if u == browser.user_id):
            return False
        if send.to != "room":
            return send.to in ("all", browser.user_id)
        return any(
            join.connection_id == connection_id
            and join.may_have_worked
            and not any(
                i == connection_id and not _was_refused(o) and _is_between(o, join.operation, began)
                for i, o in self.ends
            )
            for join in self.joins
        )

    def _must_get(self, send: Send, connection_id: str) -> bool:
        browser, began = self.browsers[connection_id], send.operation.began
        if any(user == browser.user_id for user, _ in self.revocations):
            return False
        if send.to != "room":
            connected = browser.connect
            known = connected is not None and connected.done and (connected.ended or began) < began
            return known and send.to in ("all", browser.user_id)
        return any(
            join.connection_id == connection_id
            and join.worked
            and (join.operation.ended or began) < began
            and not any(
                i == connection_id and (o.ended or began) > join.operation.began for i, o in self.ends
            )
            for join in self.joins
        )

    def _check_quiet(self) -> None:
        for connection_id in self.undelivered:
            accepted_at = self.browsers[connection_id].accepted_at
            self._call(lambda i=connection_id, at=accepted_at: self.store.connections.disconnect(i, at))  # type: ignore[misc]
        self.db.index_lags = False
        self.db.catch_up()
        for connection_id, operation in self.disconnects:
            if operation.done and "userId" in self._rows("connections").get(connection_id, {}):
                raise AssertionError(f"{connection_id} is kept though its $disconnect came")
        for user_id, operation in self.revocations:
            for connection_id, browser in self.browsers.items():
                if browser.user_id != user_id:
                    continue
                if browser.state == "OPEN" and self._closes_by_its_next_message(browser):
                    self._call(lambda i=connection_id: actions.handle(self.wiring, i, PING))  # type: ignore[misc]
                if browser.state == "OPEN" and self._was_revoked(browser):
                    raise AssertionError(f"{connection_id} is open though its user was revoked")
                # Whenever its handshake ran: its token is from before the revocation.
                if operation.done and browser.issued_at <= operation.at + self.skew:
                    kept = self._rows("connections").get(connection_id, {})
                    assert "userId" not in kept, f"{connection_id} is kept though its user was revoked"
        self._advance(YOUNG_SECONDS + SKEW + 1)
        self._call(lambda: self.direct.broadcast("quiet", {}))
        self._call(lambda: self.direct.send_to_room(CHAT.name, "quiet", {}))
        for user_id in USERS:
            self._call(lambda u=user_id: self.direct.send_to_user(u, "quiet", {}))  # type: ignore[misc]
        self._check_tables()
        for connection_id, browser in self.browsers.items():
            if browser.state == "OPEN" and self.now < browser.expires_at:
                assert connection_id in self._rows("connections"), f"{connection_id} is open and deaf"

    def _was_revoked(self, browser: Browser) -> bool:
        """Whether it was open before a revocation began."""
        connect = browser.connect
        return any(
            connect is not None and connect.done and (connect.ended or 0) < operation.began
            for user_id, operation in self.revocations
            if user_id == browser.user_id
        )

    def _check_tables(self) -> None:
        kept, rooms = self._rows("connections"), self._rows("rooms")
        now = self.now
        # A backend whose clock is ahead does not look for what is about to expire.
        alive = {
            i for i, item in kept.items() if "userId" in item and float(item["expiresAt"]["N"]) > now + SKEW
        }
        members = set(self._members(rooms.values()))
        listed = {i for i, item in kept.items() if CHAT.name in item.get("rooms", {}).get("SS", [])}
        ended = {i for i, item in kept.items() if "userId" not in item}
        # Of what has expired, nobody hears; DynamoDB deletes it.
        current = {i for i in members if float(rooms[f"connection#{i}"]["expiresAt"]["N"]) > now + SKEW}
        assert not current & ended, f"{current & ended} have ended and are still members"
        assert not current - set(kept), f"{current - set(kept)} are members and nobody"
        assert members & alive == listed & alive, "a member without a connection, or the other way round"
        for connection_id in members & alive:
            user_id = self.browsers[connection_id].user_id
            assert self._has_grant(user_id), f"{connection_id} has no grant"
        for connection_id in alive:
            assert self.browsers[connection_id].state == "OPEN", f"{connection_id} is closed and kept"
        everything = self.db.scan(TableName="rooms")["Items"]
        inboxes = self._members(item for item in everything if item["room"]["S"].startswith("user_"))
        assert alive <= set(inboxes), f"{alive - set(inboxes)} are in no inbox"
        late = {i for i, item in inboxes.items() if float(item["expiresAt"]["N"]) > now + SKEW}
        assert not late - alive, f"{late - alive} are in an inbox and nobody"
        for connection_id in late:
            whose = inboxes[connection_id]["room"]["S"]
            assert whose == f"user_{self.browsers[connection_id].user_id}", f"{connection_id} is in {whose}"

    def _has_grant(self, user_id: str) -> bool:
        return bool(self.db.get_item(TableName="rooms", Key=grant_key(CHAT.name, user_id)))


def _was_refused(operation: Operation) -> bool:
    """Whether an action was answered with an error, as one after the token's end is."""
    reply = operation.result
    return isinstance(reply, str) and json.loads(reply)["event"] in ("error", "chat:error")


def _is_between(operation: Operation, after: Operation | None, before: int) -> bool:
    """Whether it ran wholly after another one had ended and before a tick."""
    return (
        operation.done
        and after is not None
        and after.ended is not None
        and operation.began > after.ended
        and (operation.ended or before) < before
    )
