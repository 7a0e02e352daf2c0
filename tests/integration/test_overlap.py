"""Receivers are posted to while others are still being read."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from roomcast.connection import YOUNG_SECONDS, Receiver
from roomcast.errors import AwsError
from roomcast.sending.audience import ToRoom
from roomcast.sending.job import PostJob, SendJob, SendLimits
from roomcast.sending.sender import SendReport
from roomcast.sending.worker import Worker
from roomcast.store.items import PARTITIONS
from roomcast.store.large_rooms import MANY_MEMBERS
from tests.builders import chat
from tests.fakes.dynamodb import Fault
from tests.fakes.management_api import GONE, THROTTLED, FakeManagementApi
from tests.integration.test_revocation import Stage

CHAT = chat("r1")
PEOPLE = [f"c{number}=" for number in range(5)]
SENDS: dict[str, Callable[[Stage], SendReport]] = {
    "room": lambda s: s.service.send_to_room(CHAT.name, "e", {}),
    "broadcast": lambda s: s.service.broadcast("e", {}),
    "admins": lambda s: s.service.send_to_admins("e", {}),
}


@pytest.fixture
def stage(api: FakeManagementApi) -> Iterator[Stage]:
    """Five members of a chat room, all open for long; DynamoDB's pages have two items each."""
    stage = Stage(api)
    stage.service.grant_room(CHAT.name, "u1")
    for connection_id in PEOPLE:
        stage.connect(connection_id, max_connections=9)
        assert stage.act(connection_id, "chat:join_room", roomId="r1") == "chat:joined_room"
    for item in stage.dynamodb._tables["connections"].items.values():
        item["userRole"] = {"S": "admin"}
    stage.now += YOUNG_SECONDS + 1
    stage.dynamodb.page = 2
    yield stage
    stage.management_api.close()


def before_page(stage: Stage, number: int, do: Callable[[], object]) -> None:
    """Do something before DynamoDB answers with a page, the second or a later one."""
    count = 0

    def fault(operation: str) -> None:
        nonlocal count
        if operation in ("Query", "Scan"):
            count += 1
            if count == number:
                do()

    stage.dynamodb.fault = fault


def until(holds: Callable[[], object]) -> None:
    """Wait for what another thread does; fail where it does not."""
    ends = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < ends, "the posts wait for the next page"
        time.sleep(0.005)


@pytest.mark.parametrize("send", SENDS)
def test_a_page_is_posted_while_the_next_one_is_read(stage: Stage, api: FakeManagementApi, send: str) -> None:
    before_page(stage, 2, lambda: until(lambda: len(api.delivered) == 2))
    report = SENDS[send](stage)
    assert report.sent == len(PEOPLE)
    assert {i: len(bodies) for i, bodies in api.delivered.items()} == dict.fromkeys(PEOPLE, 1)


def test_jobs_of_a_page_are_on_the_queue_while_the_next_one_is_read(stage: Stage) -> None:
    limits = SendLimits(job_receivers=2)
    stage.worker = Worker(
        stage.store, stage.management_api, stage.line, limits=limits, clock=lambda: stage.now
    )
    before_page(stage, 3, lambda: until(lambda: len(stage.line.waiting) == 1))  # the first looks for a note
    assert stage.run(SendJob(ToRoom(CHAT), "e", {}, "id"))
    jobs = [job for job in stage.line.waiting if isinstance(job, PostJob)]
    assert sorted(r.connection_id for job in jobs for r in job.receivers) == PEOPLE


def test_the_report_and_the_prunes_are_exact_over_pages(stage: Stage, api: FakeManagementApi) -> None:
    api.script("c0=", GONE)
    api.script("c4=", GONE)
    before_page(stage, 2, lambda: until(lambda: api.tries("c0=") == 1))
    report = stage.service.send_to_room(CHAT.name, "e", {})
    assert (report.sent, report.gone, report.failed, report.unknown) == (3, 2, 0, 0)
    assert stage.kept() == {"c1=", "c2=", "c3="}


def test_one_who_is_on_two_pages_gets_one_message(stage: Stage, api: FakeManagementApi) -> None:
    report = stage.management_api.post_pages([["c1=", "c2="], [], ["c2=", "c3=", "c3="]], b"{}")
    assert sorted(report.sent) == ["c1=", "c2=", "c3="]
    assert [api.tries(i) for i in ("c1=", "c2=", "c3=")] == [1, 1, 1]


def test_a_page_that_cannot_be_read_ends_the_send(stage: Stage, api: FakeManagementApi) -> None:
    def throttled_for_ever(operation: str) -> Fault | None:
        if operation == "Query" and stage.dynamodb.calls["Query"] - asked > 1:
            until(lambda: len(api.delivered) == 2)
            return Fault.THROTTLED
        return None

    asked = stage.dynamodb.calls["Query"]
    stage.dynamodb.fault = throttled_for_ever
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("roomcast.aws.PATIENCE", 0.2)
        with pytest.raises(AwsError):
            stage.service.send_to_room(CHAT.name, "e", {})
    assert len(api.requests) == 2
    stage.dynamodb.fault = lambda _: None
    assert stage.service.send_to_room(CHAT.name, "e", {}).sent == len(PEOPLE)  # nothing is left of it


def test_those_who_wait_are_not_posted_when_reading_fails(stage: Stage, api: FakeManagementApi) -> None:
    def pages() -> Iterator[list[str]]:
        yield ["slow="]
        until(lambda: api.tries("slow=") > 0)
        raise OSError("the page is lost")

    api.script("slow=", THROTTLED)
    with pytest.raises(OSError, match="the page is lost"):
        stage.management_api.post_pages(pages(), b"{}", budget=30)
    assert stage.management_api.post(["c1="], b"{}").sent == ["c1="]  # the pool knows by now
    tries = api.tries("slow=")
    time.sleep(0.1)  # ten times the pause before a retry
    assert api.tries("slow=") == tries


def test_a_slow_client_of_the_first_page_does_not_end_a_send_that_is_still_read(
    stage: Stage, api: FakeManagementApi
) -> None:
    api.script("slow=", THROTTLED)

    def pages() -> Iterator[list[str]]:
        yield ["slow="]
        until(lambda: api.tries("slow=") > 0)
        yield ["c1="]

    report = stage.management_api.post_pages(pages(), b"{}", waits_for_slow=False)
    assert (report.sent, report.failed) == (["c1="], ["slow="])


def test_the_last_page_is_posted_though_reading_took_the_whole_budget(
    stage: Stage, api: FakeManagementApi
) -> None:
    def pages() -> Iterator[list[str]]:
        yield ["c1="]
        time.sleep(0.05)
        yield ["c2="]

    report = stage.management_api.post_pages(pages(), b"{}", budget=0.01)
    assert sorted(report.sent) == ["c1=", "c2="]


def test_partitions_of_a_large_room_are_read_side_by_side(stage: Stage, api: FakeManagementApi) -> None:
    stage.store.members.note_size(CHAT, MANY_MEMBERS)
    stage.now -= YOUNG_SECONDS + 1  # tokens are checked by the real clock
    for number in range(5, 40):
        stage.connect(f"c{number}=", max_connections=99)
        assert stage.act(f"c{number}=", "chat:join_room", roomId="r1") == "chat:joined_room"
    stage.now += YOUNG_SECONDS + 1
    stage.dynamodb.page = 1_000_000
    two = threading.Barrier(2, timeout=5)
    own = stage.dynamodb.calls["Query"] + 1

    def meets_another(operation: str) -> Fault | None:
        if operation == "Query" and own < stage.dynamodb.calls["Query"] <= own + 2:
            two.wait()  # breaks where nobody else reads meanwhile
        return None

    stage.dynamodb.fault = meets_another
    report = stage.service.send_to_room(CHAT.name, "e", {})
    assert report.sent == 40
    assert stage.dynamodb.calls["Query"] == own + PARTITIONS


def test_a_reader_that_stops_early_leaves_nothing_running(stage: Stage) -> None:
    stage.store.members.note_size(CHAT, MANY_MEMBERS)
    pages = stage.store.receivers.pages_of_room(CHAT)
    before = threading.active_count()
    read: list[Receiver] = []
    for page in pages:
        read += page
        if len(read) >= len(PEOPLE):
            break
    next(pages, None)
    pages.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
