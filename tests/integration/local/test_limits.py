"""Limits: 10 idle minutes and 2 hours, made short with `time_scale`; quotas, when asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus

from roomcast_dev.local.api_gateway.limits import TokenBucket
from roomcast_dev.testing import WebSocketStack, run_stack
from tests.integration.local.conftest import PLAIN
from tests.integration.local.test_events import kept
from tests.integration.local.test_management_api import management


@pytest.fixture(scope="module")
def hurried() -> Iterator[WebSocketStack]:
    """10 minutes take 1.5 s, 2 hours 18 s."""
    with run_stack(PLAIN, time_scale=400) as stack:
        yield stack


def test_an_idle_connection_closes_with_1001_after_ten_minutes(hurried: WebSocketStack) -> None:
    started = time.monotonic()
    client = hurried.connect()
    connection_id = hurried.connection_ids()[0]
    assert client.wait_closed() == (1001, "Going away")
    assert 1.4 < time.monotonic() - started < 2.5
    context = kept(hurried, connection_id, "DISCONNECT")["requestContext"]
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1001, "Going away")


def test_messages_in_either_direction_keep_it_open(hurried: WebSocketStack) -> None:
    talker, listener = hurried.connect(), hurried.connect()
    listening = hurried.connection_ids()[1]
    api = management(hurried)
    for _ in range(4):
        time.sleep(0.6)
        talker.send("silent")
        api.post_to_connection(ConnectionId=listening, Data=b"{}")
    assert len(hurried.connection_ids()) == 2
    talker.close()
    listener.close()


@pytest.mark.slow
def test_a_busy_connection_closes_with_1001_after_two_hours(hurried: WebSocketStack) -> None:
    client = hurried.connect()
    started = time.monotonic()
    while hurried.connection_ids() and time.monotonic() - started < 25:
        client.send("silent")
        time.sleep(0.5)
    assert 17 < time.monotonic() - started < 20
    assert client.wait_closed() == (1001, "Going away")


def test_over_the_quota_of_connects_the_handshake_is_429() -> None:
    with run_stack(PLAIN, quotas=0.0002) as stack:  # one connect in ten seconds
        stack.connect()
        with pytest.raises(InvalidStatus) as refusal:
            stack.connect()
        assert refusal.value.response.status_code == 429


def test_a_token_bucket_fills_again_up_to_its_burst() -> None:
    now = 100.0
    bucket = TokenBucket(rate=2, burst=3, clock=lambda: now)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now += 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now += 60
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_over_the_throttle_messages_and_posts_are_refused_together() -> None:
    with run_stack(PLAIN, quotas=1.0) as stack:  # the stage's own throttle is lower: a burst of 20
        client = stack.connect()
        for _ in range(40):
            client.send("silent")
        assert client.receive()["message"] == "Too Many Requests"
        call, connection_id = management(stack).post_to_connection, stack.connection_ids()[0]
        with pytest.raises(ClientError) as failure:
            [call(ConnectionId=connection_id, Data=b"x") for _ in range(30)]
        assert failure.value.response["Error"]["Code"] == "LimitExceededException"


def test_no_quota_holds_unless_asked_for(plain: WebSocketStack) -> None:
    client = plain.connect()
    for number in range(200):
        client.send("x", n=number)
    assert sorted(client.receive()["n"] for _ in range(200)) == list(range(200))
