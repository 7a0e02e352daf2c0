"""Faults on request: each switch, seen from a client or from a backend."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from websockets.exceptions import InvalidStatus

from roomcast_dev.local.faults import ManagementFault
from roomcast_dev.testing import WebSocketStack
from tests.integration.local.test_management_api import management


def post(stack: WebSocketStack, connection_id: str, data: bytes = b"{}") -> int:
    """The status of one post."""
    try:
        management(stack).post_to_connection(ConnectionId=connection_id, Data=data)
    except ClientError as error:
        status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return status
    return 200


def test_a_dropped_connection_gets_no_close_frame(plain: WebSocketStack) -> None:
    client = plain.connect()
    plain.drop(plain.connection_ids()[0])
    assert client.wait_closed()[0] == 1006


def test_disconnect_can_be_withheld(plain: WebSocketStack) -> None:
    plain.faults.withhold_disconnect = True
    client = plain.connect()
    connection_id = plain.connection_ids()[0]
    client.close()
    plain.eventually(lambda: not plain.connection_ids())
    time.sleep(0.3)
    rows = plain.rows(plain.stack.outputs["EventsTable"])
    assert [r["eventType"]["S"] for r in rows if r["connectionId"]["S"] == connection_id] == ["CONNECT"]


def test_connects_can_be_refused(plain: WebSocketStack) -> None:
    plain.faults.refuse_connects = 503
    with pytest.raises(InvalidStatus) as refusal:
        plain.connect()
    assert refusal.value.response.status_code == 503
    plain.faults.clear()
    plain.connect()


@pytest.mark.parametrize("status", [410, 429, 500])
def test_the_management_api_can_answer_with_an_error(plain: WebSocketStack, status: int) -> None:
    client = plain.connect()
    plain.faults.management = [ManagementFault(status=status)]
    assert post(plain, plain.connection_ids()[0]) == status
    client.expect_silence(0.1)


def test_a_fault_can_be_for_chosen_connections(plain: WebSocketStack) -> None:
    plain.connect()
    plain.connect()
    first, second = plain.connection_ids()
    plain.faults.management = [ManagementFault(status=429, connection_ids={second})]
    assert [post(plain, first), post(plain, second)] == [200, 429]


def test_a_fault_can_come_every_nth_call_and_so_many_times(plain: WebSocketStack) -> None:
    plain.connect()
    connection_id = plain.connection_ids()[0]
    plain.faults.management = [ManagementFault(status=500, every=3, times=2)]
    assert [post(plain, connection_id) for _ in range(10)] == [
        200,
        200,
        500,
        200,
        200,
        500,
        200,
        200,
        200,
        200,
    ]


def test_an_answer_can_be_late(plain: WebSocketStack) -> None:
    client = plain.connect()
    plain.faults.management = [ManagementFault(delay=0.4)]
    started = time.monotonic()
    assert post(plain, plain.connection_ids()[0]) == 200
    assert time.monotonic() - started >= 0.4
    assert client.receive() == {}


def test_the_connection_of_a_call_can_be_reset(plain: WebSocketStack) -> None:
    client = plain.connect()
    plain.faults.management = [ManagementFault(reset=True)]
    with pytest.raises(ConnectionClosedError):
        post(plain, plain.connection_ids()[0])
    client.expect_silence(0.1)


def test_a_failed_call_may_have_been_carried_out(plain: WebSocketStack) -> None:
    client = plain.connect()
    plain.faults.management = [ManagementFault(status=500, perform=True)]
    assert post(plain, plain.connection_ids()[0], b'{"n": 1}') == 500
    assert client.receive() == {"n": 1}
