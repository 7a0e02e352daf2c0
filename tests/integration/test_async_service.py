"""`AsyncWebSocketService`: the same calls on an event loop, which goes on, without a thread for each call."""

import asyncio
import inspect
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import roomcast
from roomcast import AsyncWebSocketService, AwsError, InvalidNameError, WebSocketService
from roomcast.connection import YOUNG_SECONDS
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.fakes.dynamodb_http import DynamoDBOverHttp
from tests.fakes.management_api import GONE, OK, FakeManagementApi, Reply
from tests.integration.test_revocation import Stage

CHAT = "chat_room_r1"
PEOPLE = [f"c{number}=" for number in range(5)]


@pytest.fixture
def stage(api: FakeManagementApi) -> Iterator[Stage]:
    """Five members of a chat room, all open for long."""
    stage = Stage(api)
    stage.service.grant_room(CHAT, "u1")
    for connection_id in PEOPLE:
        stage.connect(connection_id, max_connections=9)
        assert stage.act(connection_id, "chat:join_room", roomId="r1") == "chat:joined_room"
    stage.now += YOUNG_SECONDS + 1
    yield stage
    stage.management_api.close()


@pytest.fixture
def http(stage: Stage) -> Iterator[DynamoDBOverHttp]:
    with DynamoDBOverHttp(stage.dynamodb) as http:
        yield http


def over(http: DynamoDBOverHttp, stage: Stage, **options: int) -> AsyncWebSocketService:
    """A service that reaches the stage's tables over HTTP."""
    store = Store(Tables(http.client(), "connections", "rooms", clock=lambda: stage.now), stage.store.rooms)
    blocking = WebSocketService(store, stage.management_api, index_lag=0, clock=lambda: stage.now)
    return AsyncWebSocketService(blocking, **options)


def own_threads() -> list[str]:
    """The threads of this process that are not the fakes'."""
    fakes = ("fake-", "MainThread", "Thread-")
    return sorted(t.name for t in threading.enumerate() if not t.name.startswith(fakes))


def test_it_has_every_method_of_the_other_with_the_same_arguments() -> None:
    def methods(kind: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(method).replace(return_annotation=None)
            for name, method in inspect.getmembers(kind, inspect.isroutine)
            if not name.startswith("_") and not name.startswith("from_")
        }

    assert methods(AsyncWebSocketService) == methods(WebSocketService)
    for name in methods(AsyncWebSocketService):
        assert inspect.iscoroutinefunction(getattr(AsyncWebSocketService, name))


async def test_a_send_posts_to_all_members(stage: Stage, http: DynamoDBOverHttp) -> None:
    async with over(http, stage) as service:
        report = await service.send_to_room(CHAT, "e", {"n": 1}, id="s1")
    assert (report.id, report.sent) == ("s1", 5)
    assert set(stage.api.delivered) == set(PEOPLE)


async def test_sixty_sends_are_under_way_at_once_and_none_has_a_thread(
    stage: Stage, http: DynamoDBOverHttp
) -> None:
    all_there = threading.Barrier(60, timeout=20)
    met = threading.Event()

    def meet(operation: str) -> None:
        # Each send waits at its first Query; one that has lost its number asks for another later.
        if operation == "Query" and not met.is_set():
            all_there.wait()
            met.set()

    http.before = meet
    before = own_threads()
    async with over(http, stage) as service:
        reports = await asyncio.gather(*(service.send_to_room(CHAT, "e", n) for n in range(60)))
        assert [report.sent for report in reports] == [5] * 60
        # One serves the posts of all calls, and its dials look up the host in the few of its loop's executor.
        new = set(own_threads()) - set(before)
        lookups = {name for name in new if name.startswith("asyncio_")}
        assert new - lookups <= {"roomcast-management-api"}
        assert len(lookups) <= (os.cpu_count() or 1) + 4


async def test_the_loop_goes_on_while_a_call_waits(stage: Stage, http: DynamoDBOverHttp) -> None:
    ticked = threading.Event()
    http.before = lambda _: assert_set(ticked)
    async with over(http, stage) as service:
        send = asyncio.create_task(service.send_to_room(CHAT, "e", {}))
        while not http.now:
            await asyncio.sleep(0.001)
        ticked.set()  # the server waits for what only a loop that goes on does
        assert (await send).sent == 5


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


async def test_calls_over_the_limit_wait_for_their_turn(stage: Stage, http: DynamoDBOverHttp) -> None:
    two = threading.Barrier(2, timeout=20)

    def meet(operation: str) -> None:
        if operation == "Query":
            two.wait()

    http.before = meet
    async with over(http, stage, at_once=2) as service:
        await asyncio.gather(*(service.send_to_room(CHAT, "e", n) for n in range(12)))
    assert http.most == 2


async def test_a_call_that_is_cancelled_before_its_turn_has_sent_nothing(
    stage: Stage, http: DynamoDBOverHttp
) -> None:
    gate = threading.Event()
    http.before = lambda _: assert_set(gate)
    async with over(http, stage, at_once=1) as service:
        first = asyncio.create_task(service.send_to_room(CHAT, "first", {}))
        second = asyncio.create_task(service.send_to_room(CHAT, "second", {}))
        while not http.now:
            await asyncio.sleep(0.001)
        second.cancel()
        gate.set()
        assert (await first).sent == 5
        with pytest.raises(asyncio.CancelledError):
            await second
    assert all(b"second" not in body for bodies in stage.api.delivered.values() for body in bodies)


@pytest.mark.parametrize("when", ["reading", "posting"])
async def test_a_call_that_is_cancelled_ends_at_once_and_the_next_one_works(
    stage: Stage, http: DynamoDBOverHttp, when: str
) -> None:
    gate = threading.Event()
    if when == "reading":
        http.before = lambda _: assert_set(gate)
    else:
        stage.api.always = Reply(how="hang")
    async with over(http, stage) as service:
        send = asyncio.create_task(service.send_to_room(CHAT, "cancelled", {}))
        while not (http.now if when == "reading" else stage.api.requests):
            await asyncio.sleep(0.001)
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(send), 1)
        gate.set()
        stage.api.always = OK
        assert (await service.send_to_room(CHAT, "next", {})).sent == 5
    for bodies in stage.api.delivered.values():
        assert [b"cancelled" in body for body in bodies] == [False]


async def test_a_kept_connection_that_was_closed_costs_no_try(stage: Stage, http: DynamoDBOverHttp) -> None:
    async with over(http, stage) as service:
        http.vanish = 1
        await service.position(CHAT)
        for number in range(3):
            http.vanish = number
            assert (await service.send_to_room(CHAT, "e", {})).sent == 5


async def test_a_lost_answer_is_asked_for_again(stage: Stage, http: DynamoDBOverHttp) -> None:
    async with over(http, stage) as service:
        http.cut = 2
        assert (await service.send_to_room(CHAT, "e", {})).sent == 5
        assert http.cut == 0


async def test_nobody_at_the_endpoint_is_an_error_of_aws(
    stage: Stage, http: DynamoDBOverHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomcast.aws.PATIENCE", 0.2)
    service = over(http, stage)
    http._server.socket.close()
    with pytest.raises(AwsError, match="Could not connect"):
        await service.send_to_room(CHAT, "e", {})
    await service.close()


async def test_those_that_are_gone_are_pruned_side_by_side(stage: Stage, http: DynamoDBOverHttp) -> None:
    stage.api.script("c0=", OK)
    for connection_id in PEOPLE[1:]:
        stage.api.script(connection_id, GONE)
    met = threading.Barrier(4, timeout=20)

    def meet(operation: str) -> None:
        if operation == "DeleteItem":
            met.wait()

    http.before = meet
    async with over(http, stage) as service:
        report = await service.send_to_room(CHAT, "e", {})
        assert (report.sent, report.gone) == (1, 4)
        http.before = lambda _: None
        report = await service.send_to_room(CHAT, "e", {})
        assert (report.sent, report.gone) == (1, 0)


async def test_what_only_botocore_can_ask_runs_in_the_loops_executor(stage: Stage) -> None:
    threads: set[str] = set()
    stage.dynamodb.fault = lambda _: threads.add(threading.current_thread().name)
    async with AsyncWebSocketService(stage.service) as service:
        assert (await service.send_to_room(CHAT, "e", {})).sent == 5
    assert threads
    assert all(name.startswith("asyncio_") for name in threads)


async def test_errors_are_those_of_the_other(stage: Stage, http: DynamoDBOverHttp) -> None:
    async with over(http, stage) as service:
        with pytest.raises(InvalidNameError):
            await service.send_to_room("no such room", "e", {})
        assert await service.disconnect_user("u1") == 5
        assert await service.revoke_user("u1") == 0


async def test_a_call_of_the_other_inside_a_call_of_this_one_still_blocks(
    stage: Stage, http: DynamoDBOverHttp
) -> None:
    """Both may be used next to each other: only what a call of this one runs waits on the loop."""
    async with over(http, stage) as service:
        assert (await service.send_to_room(CHAT, "e", {})).sent == 5
        assert service._service.send_to_room(CHAT, "e", {}).sent == 5


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_every_loop_may_have_one(stage: Stage, http: DynamoDBOverHttp, run: Any) -> None:
    async def once() -> int:
        async with over(http, stage) as service:
            return (await service.send_to_room(CHAT, "e", {})).sent

    assert [run(once()) for _ in range(2)] == [5, 5]


async def test_deadlines_of_calls_that_run_at_once_are_their_own(
    stage: Stage, http: DynamoDBOverHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aws.within` is a context variable, and each call has a context of its own."""
    seen: list[Any] = []

    async with over(http, stage) as service:
        await asyncio.gather(*(service.send_to_room(CHAT, "e", n) for n in range(20)))
        from roomcast import aws

        seen.append(aws.seconds_left())
    assert seen == [aws.PATIENCE]


def test_nothing_waits_but_by_the_module_that_knows_of_loops() -> None:
    """A new pause or pool of threads in the engine would stop the loop of every backend."""
    blocking = re.compile(r"\btime\.sleep\(|ThreadPoolExecutor\(|\.done\.result\(\)|create_connection\(")
    root = Path(roomcast.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if blocking.search(line)
    }
    # The first knows; in the second the loop's exchange has been chosen before.
    assert found == {"aws_client/waiting.py", "aws_client/http.py"}
