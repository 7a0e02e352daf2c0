"""Posts over HTTP/2: the outcomes are those of HTTP/1.1, and a server that does not want it gets HTTP/1.1."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from botocore.credentials import Credentials
from h2.errors import ErrorCodes

from roomcast.management_api.client import ManagementApi
from roomcast.management_api.limits import PoolLimits
from roomcast.management_api.report import PostReport
from tests.fakes.http2 import Http2Conversation
from tests.fakes.management_api import OK, REFUSED, Certificate, FakeManagementApi, Reply

LIMITS = PoolLimits(backoff_base=0.02, stale=30.0)


def ids(count: int) -> list[str]:
    return [f"c{number}=" for number in range(count)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.write(tmp_path_factory.mktemp("tls") / "localhost.pem")


Connect = Callable[..., ManagementApi]


@pytest.fixture
def connect(certificate: Certificate) -> Iterator[Connect]:
    """Makes clients that trust the certificate, and closes them."""
    made: list[ManagementApi] = []

    def make(url: str, *, http2: bool = True, limits: PoolLimits = LIMITS) -> ManagementApi:
        context = certificate.client_context()
        keys = Credentials("AKID", "SECRET", "a token" * 100)
        made.append(
            ManagementApi(
                url, region="eu-west-1", credentials=keys, ssl_context=context, limits=limits, http2=http2
            )
        )
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


def conversations(api: FakeManagementApi) -> list[Http2Conversation]:
    """The open HTTP/2 connections."""
    found: list[Http2Conversation] = []
    api.over_http2(found.append)
    return found


def test_many_requests_share_few_connections(certificate: Certificate, connect: Connect) -> None:
    with FakeManagementApi(certificate=certificate, http2=True, always=Reply(delay=0.05)) as api:
        report = connect(api.endpoint).post(ids(1000), b"hello")
        assert sorted(report.sent) == sorted(ids(1000))
        assert api.delivered == {receiver: [b"hello"] for receiver in ids(1000)}
        assert 1 < len(conversations(api)) == api.opened <= 6  # 512 at once, 100 on each
        assert max(conversation.most for conversation in conversations(api)) > 50


def test_http2_is_not_offered_unless_asked_for(certificate: Certificate, connect: Connect) -> None:
    with FakeManagementApi(certificate=certificate, http2=True) as api:
        assert connect(api.endpoint, http2=False).post(["a="], b"x").sent == ["a="]
        assert conversations(api) == []


def test_a_server_without_http2_gets_http1(certificate: Certificate, connect: Connect) -> None:
    with FakeManagementApi(certificate=certificate, http2=False) as api:
        assert len(connect(api.endpoint).post(ids(100), b"x").sent) == 100
        assert conversations(api) == []
    with FakeManagementApi() as api:  # without TLS there is nothing to offer it in
        assert len(connect(api.endpoint).post(ids(100), b"x").sent) == 100


def test_a_server_that_asks_for_http1_gets_it_from_then_on(
    certificate: Certificate, connect: Connect
) -> None:
    with FakeManagementApi(certificate=certificate, http2=True, always=Reply(delay=0.2)) as api:
        gateway = connect(api.endpoint)
        sending = threading.Thread(target=lambda: reports.append(gateway.post(ids(5), b"x")))
        reports: list[object] = []
        sending.start()
        _wait(lambda: len(api.requests) == 5)
        api.always = OK
        api.over_http2(lambda conversation: conversation.go_away(0, ErrorCodes.HTTP_1_1_REQUIRED))
        sending.join()
        assert gateway.post(["b="], b"x").sent == ["b="]
        assert conversations(api) == []
        assert {receiver: api.tries(receiver) for receiver in ids(5)} == dict.fromkeys(ids(5), 2)


@pytest.mark.parametrize("streams", [1, 3])
def test_no_more_requests_are_out_than_the_server_allows(
    certificate: Certificate, connect: Connect, streams: int
) -> None:
    with FakeManagementApi(certificate=certificate, http2=True, streams=streams) as api:
        assert len(connect(api.endpoint).post(ids(200), b"x").sent) == 200
        assert all(conversation.most <= streams for conversation in conversations(api))


@pytest.mark.parametrize("window", [1, 1000, 65535])
@pytest.mark.parametrize("table", [0, 4096])
def test_bodies_of_any_size_go_through_any_window(
    certificate: Certificate, connect: Connect, window: int, table: int
) -> None:
    body = bytes(range(256)) * (1 if window == 1 else 400)
    with FakeManagementApi(certificate=certificate, http2=True, window=window, table=table) as api:
        assert len(connect(api.endpoint).post(ids(20), body).sent) == 20
        assert api.delivered == {receiver: [body] for receiver in ids(20)}


def test_a_request_that_was_refused_is_sent_again(certificate: Certificate, connect: Connect) -> None:
    with FakeManagementApi(certificate=certificate, http2=True) as api:
        for receiver in ids(20):
            api.script(receiver, REFUSED, OK)
        assert len(connect(api.endpoint).post(ids(40), b"x").sent) == 40
        assert [api.tries(receiver) for receiver in ids(40)] == [2] * 20 + [1] * 20
        api.always = REFUSED
        report = connect(api.endpoint).post(["never="], b"x")
        assert report.failed == ["never="]
        assert api.tries("never=") == LIMITS.max_tries


def test_goodbye_sends_again_what_the_server_did_not_process_and_nothing_else(
    certificate: Certificate, connect: Connect
) -> None:
    with FakeManagementApi(certificate=certificate, http2=True, always=Reply(delay=0.3)) as api:
        gateway = connect(api.endpoint)
        sending = _out(gateway, api)
        first = [request.connection_id for request in api.requests]
        api.over_http2(lambda conversation: conversation.go_away(7))  # the first four, 1 to 7
        assert sorted(sending.result().sent) == sorted(ids(10))
        assert [api.tries(receiver) for receiver in first] == [1] * 4 + [2] * 6
        assert api.opened == 2


def test_a_connection_that_breaks_leaves_what_is_out_unknown(
    certificate: Certificate, connect: Connect
) -> None:
    with FakeManagementApi(certificate=certificate, http2=True, always=Reply(delay=5)) as api:
        gateway = connect(api.endpoint)
        sending = _out(gateway, api)
        api.always = OK
        api.hang_up()
        assert sorted(sending.result().unknown) == ids(10)
        assert len(api.requests) == 10
        assert gateway.post(["a="], b"x").sent == ["a="]


def test_the_end_of_one_send_does_not_touch_another_on_the_same_connection(
    certificate: Certificate, connect: Connect
) -> None:
    with FakeManagementApi(certificate=certificate, http2=True) as api:
        gateway = connect(api.endpoint)
        gateway.post(["a="], b"x")
        api.script("late=", Reply(delay=0.8))
        api.script("never=", Reply(how="hang"))
        reports = []
        sending = threading.Thread(target=lambda: reports.append(gateway.post(["late="], b"x")))
        sending.start()
        _wait(lambda: api.tries("late=") == 1)
        assert gateway.post(["never="], b"x", budget=0.2).unknown == ["never="]
        assert gateway.post(["b="], b"x").sent == ["b="]  # on a new connection
        sending.join()
        assert reports[0].sent == ["late="]
        assert api.opened == 2
        _wait(lambda: len(conversations(api)) == 1)  # the old one is closed when nothing is out on it


@contextmanager
def server(certificate: Certificate, says: bytes) -> Iterator[str]:
    """Chooses HTTP/2, says something and then nothing; its URL."""
    context = certificate.server_context()
    context.set_alpn_protocols(["h2"])
    kept: list[ssl.SSLSocket] = []

    def serve() -> None:
        while True:
            try:
                sock, _ = listening.accept()
                kept.append(context.wrap_socket(sock, server_side=True))
                kept[-1].sendall(says)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"wss://localhost:{listening.getsockname()[1]}/local"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    for sock in kept:
        sock.close()


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"", "cannot connect: TimeoutError"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot connect: OSError bad answer: a frame that is too long"),
        (b"\0\0\0\x04\x01" + bytes(4), "cannot connect: OSError bad answer: no settings at the beginning"),
    ],
)
def test_a_server_that_chooses_http2_and_does_not_speak_it_is_no_way(
    certificate: Certificate, connect: Connect, says: bytes, reason: str
) -> None:
    limits = PoolLimits(backoff_base=0.01, connect_timeout=0.3, max_tries=2)
    with server(certificate, says) as url:
        report = connect(url, limits=limits).post(["a="], b"x")
    assert report.failed == ["a="]
    assert list(report.reasons) == [reason]


def test_settings_that_take_no_request_end_with_the_budget(
    certificate: Certificate, connect: Connect
) -> None:
    none = b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x03" + bytes(4)
    with server(certificate, none) as url:
        report = connect(url).post(ids(3), b"x", budget=0.5)
    assert sorted(report.failed) == ids(3)
    assert report.reasons == {"out of time": 3}


def _out(gateway: ManagementApi, api: FakeManagementApi) -> Future[PostReport]:
    """Begin a send to ten, and come back when all of it has reached the server and nothing is answered."""
    sending: Future[PostReport] = Future()
    threading.Thread(target=lambda: sending.set_result(gateway.post(ids(10), b"x"))).start()
    _wait(lambda: len(api.requests) == 10)
    return sending


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
