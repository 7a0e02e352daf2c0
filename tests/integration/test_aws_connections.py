"""What a bad day of a connection to AWS does to a call: at most a retry, never another outcome."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError, SSLError

from roomcast import aws
from roomcast.aws_client.client import JsonClient
from roomcast.aws_client.credentials import StaticCredentials
from roomcast.aws_client.http import Connections
from roomcast.errors import AwsError, AwsRefusedError, AwsUnansweredError
from tests.fakes.management_api import Certificate

OK = b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"Item": "x"}'
CHUNKED = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"Ite\r\n8\r\nm": "x"}\r\n0\r\n\r\n'
LAST = OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")
HALF = OK[:-5]
NO_LENGTH = b"HTTP/1.1 200 OK\r\n\r\n{}"
TOO_MUCH = OK + b"HTTP"
NOT_HTTP = b"SSH-2.0-hello\r\n\r\n"
SILENCE, RESET, CLOSED = b"silence", b"reset", b"closed"
BUSY = b'HTTP/1.1 500 Oops\r\ncontent-length: 33\r\n\r\n{"__type": "InternalServerError"}'
THROTTLED = b'HTTP/1.1 400 Bad\r\ncontent-length: 33\r\n\r\n{"__type": "ThrottlingException"}'


class Server:
    """Answers one request after another with what the script says, then with `OK`; counts connections."""

    def __init__(self, script: list[bytes], context: ssl.SSLContext | None = None) -> None:
        self.script, self._context = script, context
        self.connections = self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._socket.accept()
                self.connections += 1
                if self._context:
                    taken = self._context.wrap_socket(taken, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        while True:
            request = b""
            try:
                while not request.endswith(b"}"):
                    more = taken.recv(65536)
                    if not more:
                        taken.close()
                        return
                    request += more
            except OSError:
                return
            self.requests += 1
            step = self.script.pop(0) if self.script else OK
            if step == SILENCE:
                continue
            if step == RESET:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            elif step != CLOSED:
                for at in range(0, len(step), 40):  # in pieces
                    taken.sendall(step[at : at + 40])
            if step in (RESET, CLOSED, HALF, LAST):
                taken.close()
                return


@contextmanager
def serving(*script: bytes, context: ssl.SSLContext | None = None) -> Iterator[tuple[Server, Any]]:
    server = Server(list(script), context)
    yield server, _client(f"http://127.0.0.1:{server.port}")
    server.close()


def _client(url: str, read_timeout: float = 5) -> Any:
    return JsonClient(
        "dynamodb",
        endpoint_url=url,
        region="us-east-1",
        credentials=StaticCredentials("a", "b"),
        connections=Connections(url, connect_timeout=1, read_timeout=read_timeout),
    )


def test_one_connection_serves_call_after_call() -> None:
    with serving(OK, CHUNKED, OK) as (server, client):
        assert [client.get_item()["Item"] for _ in range(3)] == ["x"] * 3
    assert (server.connections, server.requests) == (1, 3)


@pytest.mark.parametrize("end", [LAST, CLOSED, RESET])
def test_a_kept_connection_that_has_ended_costs_no_try(end: bytes) -> None:
    with serving(OK, end) as (server, client):
        client.get_item()
        assert client.get_item()["Item"] == "x"
        assert client.get_item()["Item"] == "x"
    assert server.connections == 2


@pytest.mark.parametrize(
    "fault", [HALF, RESET, CLOSED, NO_LENGTH, TOO_MUCH, NOT_HTTP, BUSY, THROTTLED], ids=lambda f: f[:20]
)
def test_a_fault_is_an_error_that_the_policy_retries(fault: bytes) -> None:
    with serving(fault) as (_, client):
        with pytest.raises(AwsError) as caught:
            client.get_item()
        assert aws.is_retryable(caught.value)
    with serving(fault, fault) as (server, client):
        assert aws.call(client.get_item)["Item"] == "x"
        assert server.requests == 3


def test_a_silent_connection_ends_in_time_and_is_not_used_again() -> None:
    server = Server([SILENCE])
    client = _client(f"http://127.0.0.1:{server.port}", read_timeout=0.1)
    with pytest.raises(AwsUnansweredError) as caught:
        client.get_item()
    assert isinstance(caught.value, ReadTimeoutError)
    assert client.get_item()["Item"] == "x"
    assert server.connections == 2
    server.close()


def test_nobody_who_listens() -> None:
    with pytest.raises(AwsError) as caught:
        _client("http://127.0.0.1:1").get_item()
    assert isinstance(caught.value, EndpointConnectionError)
    assert not aws.is_retryable(caught.value)
    assert caught.value.kwargs["endpoint_url"] == "http://127.0.0.1:1"


def test_a_connect_that_is_not_answered_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> socket.socket:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(AwsUnansweredError) as caught:
        _client("http://127.0.0.1:1").get_item()
    assert isinstance(caught.value, ConnectTimeoutError)


def test_an_answer_of_another_kind_is_not_retried() -> None:
    refusal = b'HTTP/1.1 400 Bad\r\ncontent-length: 33\r\n\r\n{"__type": "ValidationException"}'
    with serving(refusal) as (server, client):
        with pytest.raises(AwsRefusedError, match="ValidationException"):
            aws.call(client.get_item)
        assert server.requests == 1


def test_calls_at_the_same_time_have_a_connection_each() -> None:
    gate = threading.Barrier(4)

    def many(client: Any) -> Callable[[], None]:
        def run() -> None:
            gate.wait()
            for _ in range(20):
                assert client.get_item()["Item"] == "x"

        return run

    with serving() as (server, client):
        threads = [threading.Thread(target=many(client)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.requests == 80
    assert server.connections <= 4


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("host", ["localhost", "elsewhere.test"])
def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, host: str) -> None:
    certificate = Certificate.write(tmp_path / "pem", host).path
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    if trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    server = Server([], context)
    client = _client(f"https://localhost:{server.port}")
    if trusted and host == "localhost":
        assert client.get_item()["Item"] == "x"
    else:
        with pytest.raises(AwsError) as caught:
            client.get_item()
        assert isinstance(caught.value, SSLError)
        assert server.requests == 0
    server.close()
