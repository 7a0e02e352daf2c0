"""Questions about API Gateway that any endpoint can be asked, each with the stand-in's answer.

A row whose answer is known is asserted of the stand-in and compared at a real endpoint. One without is a
measurement: it is asked of both, and a person reads it.
"""

import contextlib
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from websockets.exceptions import ConnectionClosed

from roomcast.management_api.client import ManagementApi
from tests.conformance.target import SECONDS, Target, closing, outcome

KB = 1024
MEASURED = object()
"""In the place of an answer: there is none that must come."""
UNKNOWN_ID = "TWegAcC4EowCHnA="
GONE = [410, "GoneException"]


@dataclass(frozen=True, slots=True)
class Row:
    """One question.

    Attributes:
        name: what is asked.
        ask: asks it.
        answer: what the stand-in says, or `MEASURED`.
        of_a_stage: whether only a stage of this project can be asked, since its functions take part.
    """

    name: str
    ask: Callable[[Target], Any]
    answer: Any
    of_a_stage: bool = False


# Handshakes


def _status(**arguments: Any) -> Callable[[Target], Any]:
    return lambda target: target.handshake(**arguments).status


def _at(path: str) -> Callable[[Target], Any]:
    return lambda target: target.handshake(path.format(stage=target.path)).status


def _other_version(target: Target) -> Any:
    response = target.handshake(version="8")
    return [response.status, response.headers["Sec-WebSocket-Version"]]


def _extension(target: Target) -> Any:
    offered = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    return target.handshake(headers=offered).headers["Sec-WebSocket-Extensions"]


def _long_url(length: int) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        start = f"{target.path or '/'}?{target.admit()}&pad="
        return target.handshake(start + "x" * (length - len(start))).status

    return ask


def _http(method: str) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        return target.handshake(start=f"{method} {target.path or '/'}?{target.admit()} HTTP/1.1").status

    return ask


HANDSHAKES = (
    Row("a client is let in", lambda target: target.handshake().status, 101),
    Row("a client without a token", _at("{stage}"), 401, of_a_stage=True),
    Row("a stage that is not there", _at("/no-such-stage"), 403),
    Row("a path below the stage", _at("{stage}/more"), 403),
    Row("WebSocket version 8", _other_version, [426, "13"]),
    Row("a URL of 4,000 characters", _long_url(4000), 101),
    Row("a URL of 4,100 characters", _long_url(4100), 414),
    Row("POST with an upgrade", _http("POST"), 404),
    Row("HEAD with an upgrade", _http("HEAD"), 404),
    Row("permessage-deflate is offered: what is agreed", _extension, None),
    Row(
        "a subprotocol that nobody answers",
        lambda target: target.handshake(headers="Sec-WebSocket-Protocol: chat.v1\r\n").headers[
            "Sec-WebSocket-Protocol"
        ],
        None,
    ),
)

# Frames


def _sent(*fragments: str | bytes, text: bool | None = None) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        message: Any = fragments[0] if len(fragments) == 1 else iter(fragments)
        with target.client() as (websocket, _):
            with contextlib.suppress(
                ConnectionClosed
            ):  # the close may come before the last fragment has left
                websocket.send(message, text=text)
            return outcome(websocket)

    return ask


def _echoed(code: int) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        with target.client() as (websocket, _):
            websocket.close(code)
            closed = websocket.protocol.close_rcvd
        return closed.code if closed else None

    return ask


def _pong(target: Target) -> Any:
    with target.client() as (websocket, _):
        return websocket.ping(b"x" * 125).wait(SECONDS)


FRAMES = (
    Row("a binary frame", _sent(b"\x00\x01"), 1003),
    Row("a frame of 32 KB", _sent("x" * (32 * KB)), "open"),
    Row("a frame of 32 KB and a byte", _sent("x" * (32 * KB + 1)), 1009),
    Row("a message of 128 KB in four frames", _sent(*["x" * (32 * KB)] * 4), "open"),
    Row("a message of 128 KB and a byte", _sent(*["x" * (32 * KB)] * 4, "x"), 1009),
    Row("text that is not UTF-8", _sent(b"\xff\xfe", text=True), 1007),
    Row("an empty message", _sent(""), "open"),
    *(Row(f"the close code {code} is echoed", _echoed(code), code) for code in (1000, 1001, 3000, 4999)),
    Row("a ping of 125 bytes is answered", _pong, True),
)

# The management API


def _arrives(data: bytes) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        with target.client() as (websocket, connection_id):
            status = target.status("post_to_connection", ConnectionId=connection_id, Data=data)
            if status != 200:
                return status
            return [status, websocket.recv(timeout=SECONDS, decode=False) == data]

    return ask


def _post(data: bytes) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        with target.client() as (_, connection_id):
            return target.status("post_to_connection", ConnectionId=connection_id, Data=data)

    return ask


def _bytes_arrive(target: Target) -> Any:
    """What a client gets of a post that is not UTF-8."""
    with target.client() as (websocket, connection_id):
        status = target.status("post_to_connection", ConnectionId=connection_id, Data=b"\xff\xfe")
        if status != 200:
            return status
        try:
            received = websocket.recv(timeout=5, decode=False)
        except ConnectionClosed as closed:
            return [status, f"closed {closed.rcvd.code if closed.rcvd else 1006}"]
        except TimeoutError:
            return [status, "nothing"]
        return [status, received.hex()]


def _of(connection_id: str) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        return [
            target.status("post_to_connection", ConnectionId=connection_id, Data=b"x"),
            target.status("get_connection", ConnectionId=connection_id),
            target.status("delete_connection", ConnectionId=connection_id),
        ]

    return ask


def _elsewhere(path: str) -> Callable[[Target], Any]:
    def ask(target: Target) -> Any:
        base = target.callback_url.removesuffix(target.path)
        with target.client() as (_, connection_id):
            return target.status("get_connection", url=f"{base}{path}", ConnectionId=connection_id)

    return ask


def _unsigned(target: Target) -> Any:
    with target.client() as (_, connection_id):
        url = f"{target.callback_url}/@connections/{connection_id.replace('=', '%3D')}"
        try:
            with urlopen(Request(url, b"x", method="POST"), timeout=SECONDS) as response:
                return response.status
        except HTTPError as error:
            return [error.code, json.loads(error.read())]


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def _connection(target: Target) -> Any:
    """Which keys GetConnection answers with, and whether its times are times."""
    with target.client() as (_, connection_id):
        answer = target.call("get_connection", ConnectionId=connection_id)
        if isinstance(answer, list):
            return answer
        times = [bool(_TIME.match(answer[key].isoformat())) for key in ("ConnectedAt", "LastActiveAt")]
        return [sorted(set(answer) - {"ResponseMetadata"}), sorted(answer["Identity"]), *times]


def _delete(target: Target) -> Any:
    with target.client() as (websocket, connection_id):
        status = target.status("delete_connection", ConnectionId=connection_id)
        return [status, *closing(websocket), target.status("delete_connection", ConnectionId=connection_id)]


def _closed(target: Target) -> Any:
    with target.client() as (websocket, connection_id):
        websocket.close()
    return _within(
        10, lambda: target.status("get_connection", ConnectionId=connection_id), [410, "GoneException"]
    )


def _within(seconds: float, ask: Callable[[], Any], wanted: Any) -> Any:
    """The answer once it is the one that is wanted, or the last one."""
    until = time.monotonic() + seconds
    while (answer := ask()) != wanted and time.monotonic() < until:
        time.sleep(0.1)
    return answer


def _posts_over_http2(target: Target) -> dict[str, int]:
    """What becomes of our own posts where HTTP/2 is offered."""
    with target.client() as (_, connection_id):
        management_api = ManagementApi(
            target.callback_url, region=target.region, session=target.session, http2=True
        )
        with contextlib.closing(management_api):
            report = management_api.post([connection_id, UNKNOWN_ID], b"over HTTP/2", budget=SECONDS)
    outcomes = ("sent", "gone", "failed", "unknown")
    return {outcome: len(getattr(report, outcome)) for outcome in outcomes}


MANAGEMENT = (
    Row("a post arrives as it was", _arrives('{"text": "żółw"}'.encode()), [200, True]),
    Row("a post of 128 KB", _arrives(b"x" * (128 * KB)), [200, True]),
    Row("a post of 128 KB and a byte", _post(b"x" * (128 * KB + 1)), [413, "PayloadTooLargeException"]),
    Row("a connection that is not there", _of(UNKNOWN_ID), [GONE, GONE, GONE]),
    Row("a closed connection", _closed, GONE),
    Row(
        "our posts where HTTP/2 is offered",
        _posts_over_http2,
        {"sent": 1, "gone": 1, "failed": 0, "unknown": 0},
    ),
    Row("a URL without the stage", _elsewhere(""), [403, "ForbiddenException"]),
    Row("a URL of another stage", _elsewhere("/no-such-stage"), [403, "ForbiddenException"]),
    Row("a request that is not signed", _unsigned, [403, {"message": "Missing Authentication Token"}]),
    Row(
        "what GetConnection says",
        _connection,
        [["ConnectedAt", "Identity", "LastActiveAt"], ["SourceIp", "UserAgent"], True, True],
    ),
    Row("DELETE closes the client", _delete, [204, 1000, "Connection Closed Normally", GONE]),
)

# Measurements


def _alpn(target: Target) -> Any:
    """Which HTTP the management API chooses of HTTP/2 and HTTP/1.1."""
    if not target.has_tls:
        return "no TLS, so HTTP/1.1"
    with target.socket(["h2", "http/1.1"]) as sock:
        return getattr(sock, "selected_alpn_protocol", lambda: None)()


def _overtaking(target: Target, posts: int, at_once: int) -> dict[str, int]:
    """How many of some numbered posts come after a later one, and by how many places at most."""
    with target.client() as (websocket, connection_id):
        received: list[int] = []

        def receive() -> None:
            with contextlib.suppress(TimeoutError, ConnectionClosed):
                while len(received) < posts:
                    received.append(int(websocket.recv(timeout=SECONDS)))

        reader = threading.Thread(target=receive)
        reader.start()
        with ThreadPoolExecutor(at_once) as pool:
            send = lambda n: target.status("post_to_connection", ConnectionId=connection_id, Data=b"%d" % n)  # noqa: E731
            statuses = list(pool.map(send, range(posts)))
        reader.join()
    late = [
        max(received[:at]) - number
        for at, number in enumerate(received)
        if at and number < max(received[:at])
    ]
    return {
        "refused": sum(status != 200 for status in statuses),
        "not received": posts - len(received),
        "overtaken": len(late),
        "by at most": max(late, default=0),
    }


def _vanished(target: Target) -> Any:
    """What GetConnection says of a client that was cut off, after some seconds."""
    answers = {}
    with target.client() as (websocket, connection_id):
        # Closing with a linger of zero sends a reset and no close frame.
        websocket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        websocket.socket.close()
        for seconds in (0, 1, 5):
            time.sleep(seconds)
            answers[f"after {seconds} s"] = target.status("get_connection", ConnectionId=connection_id)
    return answers


_FROZEN = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], compression=None, ping_interval=None) as websocket:
    print("open", flush=True)
    websocket.recv()
"""


def _frozen(target: Target) -> Any:
    """What the management API says of a client whose process is stopped: its kernel still answers."""
    query = target.admit()
    url = f"{target.url}?{query}" if query else target.url
    command = [sys.executable, "-c", _FROZEN, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "open\n":
            return "it could not connect"
        connection_id = target.connection_id(query)
        process.send_signal(signal.SIGSTOP)
        try:
            return {
                "get": target.status("get_connection", ConnectionId=connection_id),
                "post": target.status("post_to_connection", ConnectionId=connection_id, Data=b"x"),
            }
        finally:
            process.kill()


def _fills(target: Target) -> Any:
    """How much a client that does not read can be posted before it is refused."""
    query = target.admit()
    with target.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path = f"{target.path or '/'}?{query}"
        host = target.url.split("/")[2]
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        sock.recv(1)
        connection_id = target.connection_id(query)
        for number in range(200):
            status = target.status("post_to_connection", ConnectionId=connection_id, Data=b"x" * (128 * KB))
            if status != 200:
                return {"refused with": status, "after MB": number / 8}
    return {"refused with": None, "after MB": 25}


def _plain_get(target: Target) -> Any:
    with target.socket() as sock:
        host = target.url.split("/")[2]
        sock.sendall(
            f"GET {target.path or '/'} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        head = sock.recv(65536).split(b"\r\n", 1)[0]
    return head.decode("latin-1")


MEASUREMENTS = (
    Row("HTTP/2 is offered on @connections: what is chosen", _alpn, MEASURED),
    Row("40 posts one after the other", lambda t: _overtaking(t, 40, 1), MEASURED),
    Row(
        "200 posts, 20 at once: how far they overtake", lambda target: _overtaking(target, 200, 20), MEASURED
    ),
    Row("a client that was cut off: GetConnection", _vanished, MEASURED),
    Row("a client that is frozen", _frozen, MEASURED),
    Row("a client that does not read", _fills, MEASURED),
    Row("an empty post", _post(b""), MEASURED),
    Row("a post that is not UTF-8", _bytes_arrive, MEASURED),
    Row("a connection id that cannot be one", _of("x"), MEASURED),
    Row("GET without an upgrade", _plain_get, MEASURED),
)


ROWS: tuple[Row, ...] = (*HANDSHAKES, *FRAMES, *MANAGEMENT, *MEASUREMENTS)


def compare(rows: Iterable[Row], target: Target, say: Callable[[str], None]) -> int:
    """Ask the rows of a real endpoint, one line each.

    Returns:
        How many answers differ from the stand-in's.
    """
    differ = 0
    for row in rows:
        try:
            answer = json.loads(json.dumps(row.ask(target)))
        except Exception as error:  # noqa: BLE001  one question that fails must not end the others
            answer = f"{type(error).__name__}: {error}"
        if row.answer is MEASURED:
            say(f"measured  {row.name}: {json.dumps(answer)}")
        elif answer == row.answer:
            say(f"same      {row.name}: {json.dumps(answer)}")
        else:
            differ += 1
            say(f"DIFFERS   {row.name}: {json.dumps(answer)}, and the stand-in says {json.dumps(row.answer)}")
    return differ
