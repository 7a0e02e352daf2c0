"""Where the local run listens: loopback, and one more address where a person asks for it."""

from __future__ import annotations

import socket

import boto3
import pytest
from websockets.sync.client import connect

from roomcast_dev.local.errors import LocalRunError, PortInUseError
from roomcast_dev.local.wire.sockets import listen
from roomcast_dev.testing import run_stack
from tests.integration.local.conftest import PLAIN


def addresses(port: int = 0, host: str | None = None) -> set[str]:
    sockets = listen(port, host)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        return {sock.getsockname()[0] for sock in sockets}
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (None, {"127.0.0.1", "::1"}),
        ("127.0.0.1", {"127.0.0.1", "::1"}),
        ("127.0.0.2", {"127.0.0.1", "127.0.0.2", "::1"}),
        ("0.0.0.0", {"0.0.0.0", "::1"}),
        ("::", {"127.0.0.1", "::"}),
    ],
)
def test_it_listens_on_loopback_and_on_the_address_asked_for(host: str | None, expected: set[str]) -> None:
    assert addresses(host=host) == expected


@pytest.mark.parametrize(
    ("host", "problem"),
    [("example.org", "--host example.org is not an IP address"), ("192.0.2.1", "cannot listen on 192.0.2.1")],
)
def test_an_address_that_is_not_ours_is_one_line(host: str, problem: str) -> None:
    with pytest.raises(LocalRunError, match=problem):
        listen(0, host)


def test_a_port_that_is_in_use_names_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} is in use.*--ministack-port"):
            listen(port, option="--ministack-port")


def test_another_machine_reaches_the_gateway_and_ministack_at_ports_that_stay() -> None:
    with socket.create_server(("127.0.0.2", 0)) as free:
        port = free.getsockname()[1]
    with run_stack(PLAIN, host="127.0.0.2", ministack_port=port) as stack:
        assert stack.stack.ministack.url == f"http://127.0.0.1:{port}"
        with connect(f"ws://127.0.0.2:{stack.stack.port}/v1", proxy=None) as client:
            client.send('{"n": 1}')
            assert '"n": 1' in str(client.recv(timeout=5))
        session = boto3.Session("test", "test", region_name="us-east-1")
        dynamodb = session.client("dynamodb", endpoint_url=f"http://127.0.0.2:{port}")
        assert stack.stack.outputs["EventsTable"] in dynamodb.list_tables()["TableNames"]
