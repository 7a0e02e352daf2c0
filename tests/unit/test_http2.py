"""HTTP/2 frames: what a server may send is understood however it is cut, the rest ends the connection."""

import struct
from itertools import pairwise

import pytest
from botocore.credentials import Credentials
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from roomcast.callback_url import CallbackUrl
from roomcast.management_api.http1 import Response
from roomcast.management_api.http2 import MAX_STREAMS, Http2
from roomcast.management_api.http2_stream import Event, Reset
from roomcast.management_api.send import Post, Send
from roomcast.management_api.sigv4 import Signer
from tests.fakes.http2 import serve

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
KEYS = Credentials("AKID", "SECRET", "a token").get_frozen_credentials()
URL = CallbackUrl.parse("wss://abc.execute-api.eu-west-1.amazonaws.com/prod")


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(**values: int) -> bytes:
    """A frame of settings, by the names that the `h2` library has for them."""
    payload = b"".join(struct.pack(">HL", SettingCodes[name], value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


OK = b"\x88"
GONE = b"\x48\x03410\x40\x10x-amzn-errortype\x0dGoneException"


def a_send(body: bytes = b"hello") -> Send:
    return Send(Signer("POST", URL, "eu-west-1", body, KEYS), lambda: KEYS, 0.0, None)


def client(*, posts: int = 0, greeted: bool = True, send: Send | None = None) -> Http2:
    """A connection with requests to `c0=`, `c1=` and so on out, which are the streams 1, 3 and so on."""
    http2 = Http2()
    if greeted:
        assert http2.receive(settings()) == []
    send = send or a_send()
    for at in range(posts):
        http2.start(Post(send, f"c{at}="), 0.0)
    return http2


def sent(http2: Http2) -> bytes:
    """What is queued, which is then gone."""
    data = b"".join(http2.queue)
    http2.queue.clear()
    return data


def said(events: list[Event]) -> list[tuple[str, Response | Reset]]:
    return [(stream.post.connection_id, how) for stream, how in events]


class Server:
    """The `h2` library's side, which refuses whatever is not legal; it begins with the settings given."""

    def __init__(self, http2: Http2, **values: int) -> None:
        self.http2 = http2
        self.frames = serve({SettingCodes[name]: value for name, value in values.items()})
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.whole: set[int] = set()
        self.cancelled: set[int] = set()
        self.turn()

    def turn(self) -> list[Event]:
        """Both sides read what the other one has sent."""
        events = self.http2.receive(self.frames.data_to_send())
        assert not self.http2.error
        for event in self.frames.receive_data(sent(self.http2)):
            if isinstance(event, RequestReceived):
                self.requests[event.stream_id] = {str(name): str(value) for name, value in event.headers}
                self.bodies[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
            elif isinstance(event, StreamEnded):
                self.whole.add(event.stream_id)
            elif isinstance(event, StreamReset):
                self.cancelled.add(event.stream_id)
        return events


def test_another_library_reads_the_requests_and_is_understood() -> None:
    http2 = Http2()
    assert http2.room == 0  # the server's settings have not come
    server = Server(http2)
    for at in range(3):
        http2.start(Post(a_send(b"hello %d" % at), f"c{at}="), 0.0)
    server.turn()
    assert [fields[":path"] for fields in server.requests.values()] == [
        f"/prod/@connections/c{at}%3D" for at in range(3)
    ]
    assert list(server.bodies.values()) == [b"hello 0", b"hello 1", b"hello 2"]
    server.frames.send_headers(3, [(":status", "410"), ("x-amzn-errortype", "GoneException:")])
    server.frames.send_data(3, b"{}", end_stream=True)
    server.frames.send_headers(1, [(":status", "200"), ("date", "today")], end_stream=True)
    server.frames.reset_stream(5, ErrorCodes.REFUSED_STREAM)
    assert said(server.turn()) == [
        ("c1=", Response(410, "GoneException", keep_alive=True)),
        ("c0=", Response(200, "", keep_alive=True)),
        ("c2=", Reset("reset by the server: 7", refused=True)),
    ]
    assert not http2.streams


WHATEVER = b"".join(
    [
        settings(MAX_CONCURRENT_STREAMS=50),
        frame(SETTINGS, ACK),
        frame(HEADERS, END_HEADERS, 3, b"\x08\x03100"),  # 100 Continue
        frame(PING, 0, 0, b"12345678"),
        frame(HEADERS, END_HEADERS | END, 1, OK + b"\x0f\x12\x04date"),
        frame(PRIORITY, 0, 9, bytes(5)),
        frame(HEADERS, PADDED | WITH_PRIORITY, 3, b"\x02" + bytes(5) + GONE[:9] + bytes(2)),
        frame(CONTINUATION, 0, 3, GONE[9:20]),
        frame(CONTINUATION, END_HEADERS, 3, GONE[20:]),
        frame(0xBE, 0xFF, 77, b"something of the years to come"),
        frame(DATA, PADDED, 3, b"\x01{\0"),
        frame(WINDOW, 0, 0, number(100)),
        frame(WINDOW, 0, 5, number(100)),
        frame(RST, 0, 5, number(2)),
        frame(RST, 0, 1, number(0)),  # of one that is over
        frame(DATA, END, 3, b"}"),
        frame(HEADERS, END_HEADERS, 7, b"\x48\x03503"),
        frame(HEADERS, END_HEADERS | END, 7, b"\x40\x01x\x01y"),  # a trailer
        frame(GOAWAY, 0, 0, number(9) + number(0) + b"maintenance"),
    ]
)
CAME = [
    ("c0=", Response(200, "", keep_alive=True)),
    ("c2=", Reset("reset by the server: 2", refused=False)),
    ("c1=", Response(410, "GoneException", keep_alive=True)),
    ("c3=", Response(503, "", keep_alive=True)),
    ("c5=", Reset("the server goes away: 0", refused=True)),
]


@given(st.lists(st.integers(0, len(WHATEVER)), max_size=30).map(sorted))
def test_frames_are_read_however_they_are_cut(cuts: list[int]) -> None:
    http2 = client(posts=6)
    sent(http2)
    events: list[Event] = []
    for begin, end in pairwise([0, *cuts, len(WHATEVER)]):
        events += http2.receive(WHATEVER[begin:end])
    assert not http2.error
    assert said(events) == CAME
    assert list(http2.streams) == [9]
    assert sent(http2) == frame(SETTINGS, ACK) + frame(PING, ACK, 0, b"12345678")


def test_one_byte_after_the_other_is_enough() -> None:
    http2 = client(posts=6)
    events = [event for at in range(len(WHATEVER)) for event in http2.receive(WHATEVER[at : at + 1])]
    assert said(events) == CAME


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_do_anything_but_end_the_connection(data: bytes, greeted: bool) -> None:
    http2 = client(posts=3, greeted=greeted)
    events = http2.receive(data) + http2.receive(data)
    assert len(events) + len(http2.streams) == 3
    assert not http2.error or http2.room == 0


@given(
    st.lists(
        st.builds(
            frame,
            st.integers(0, 10),
            st.integers(0, 255),
            st.integers(0, 9),
            st.binary(max_size=12) | st.just(OK) | st.just(GONE),
        ),
        max_size=8,
    )
)
def test_no_frames_do_anything_but_settle_requests_or_end_the_connection(frames: list[bytes]) -> None:
    http2 = client(posts=3)
    events = [event for data in frames for event in http2.receive(data)]
    assert len(events) + len(http2.streams) == 3


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(DATA, 0, 0, b"x"),
        frame(DATA, 0, 3, b"before the head"),
        frame(DATA, 0, 2, b"x"),
        frame(DATA, 0, 99, b"x"),
        frame(DATA, PADDED, 3, b"\x05x"),
        frame(DATA, PADDED, 3),
        frame(HEADERS, END_HEADERS, 0, OK),
        frame(HEADERS, END_HEADERS, 4, OK),
        frame(HEADERS, END_HEADERS, 3, b"\xbe"),
        frame(HEADERS, END_HEADERS, 3, b"\x58\x01x"),
        frame(HEADERS, END_HEADERS, 3) + frame(HEADERS, END_HEADERS, 3),
        frame(HEADERS, END_HEADERS, 3, OK) + frame(HEADERS, END_HEADERS, 3, OK),
        frame(HEADERS, 0, 3, OK) + frame(PING, 0, 0, bytes(8)),
        frame(HEADERS, 0, 3, OK) + frame(CONTINUATION, END_HEADERS, 5),
        frame(HEADERS, 0, 3, OK) + frame(HEADERS, END_HEADERS | END, 5, OK),
        frame(CONTINUATION, END_HEADERS, 3, OK),
        frame(RST, 0, 0, number(0)),
        frame(RST, 0, 3, b"x"),
        frame(RST, 0, 99, number(0)),
        frame(SETTINGS, 0, 1),
        frame(SETTINGS, 0, 0, b"12345"),
        frame(SETTINGS, ACK, 0, b"123456"),
        settings(INITIAL_WINDOW_SIZE=2**31),
        frame(PUSH, END_HEADERS, 3, number(2) + OK),
        frame(PING, 0, 0, b"1234567"),
        frame(PING, 0, 3, bytes(8)),
        frame(GOAWAY, 0, 0, bytes(7)),
        frame(WINDOW, 0, 0, number(0)),
        frame(WINDOW, 0, 0, number(2**31 - 1)),
        frame(WINDOW, 0, 0, b"x"),
        b"\x00\x40\x01" + bytes(6),  # one byte longer than a frame may be
    ],
)
def test_what_a_server_may_not_send_ends_the_connection_after_what_came_before(bad: bytes) -> None:
    http2 = client(posts=4)
    events = http2.receive(frame(HEADERS, END_HEADERS | END, 1, OK) + bad)
    assert said(events) == [("c0=", Response(200, "", keep_alive=True))]
    assert http2.error.startswith("bad answer: ")
    assert http2.room == 0


def test_a_server_that_begins_without_its_settings_is_refused() -> None:
    for first in (frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK)):
        http2 = client(greeted=False)
        http2.receive(first)
        assert http2.error
        assert not http2.ready


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, bytes(8)),
        settings(MAX_CONCURRENT_STREAMS=10),
        frame(0xBE),
        frame(RST, 0, 1, number(0)),  # of a request that is over
        frame(WINDOW, 0, 3, number(1)),
        frame(DATA, 0, 3),
    ],
)
def test_a_flood_ends_the_connection(flood: bytes) -> None:
    http2 = client(posts=2)
    http2.receive(frame(HEADERS, END_HEADERS | END, 1, OK) + frame(HEADERS, END_HEADERS, 3, OK))
    for _ in range(9):
        http2.receive(flood * 1000)
        assert not http2.error
    http2.receive(flood * 2000)
    assert "thousands of frames" in http2.error
    assert http2.queued < 500_000  # it is not answered for ever


def test_answers_end_what_might_have_been_a_flood() -> None:
    http2 = client(posts=MAX_STREAMS)
    for at in range(20):
        http2.receive(frame(PING, 0, 0, bytes(8)) * 900)
        http2.receive(frame(HEADERS, END_HEADERS | END, 2 * at + 1, OK))
    assert not http2.error


@pytest.mark.parametrize("part", [b"", b"x" * 16000])
def test_a_header_block_without_an_end_is_refused(part: bytes) -> None:
    http2 = client(posts=1)
    http2.receive(frame(HEADERS, 0, 1, OK))
    for _ in range(11):
        http2.receive(frame(CONTINUATION, 0, 1, part) * 1000)
    assert http2.error


def test_the_server_says_how_many_requests_may_be_out() -> None:
    http2 = client(greeted=False)
    server = Server(http2, MAX_CONCURRENT_STREAMS=3)
    assert (http2.room, http2.width) == (3, 3)
    for at in range(3):
        http2.start(Post(a_send(), f"c{at}="), 0.0)
    assert http2.room == 0
    server.turn()
    server.frames.send_headers(3, [(":status", "200")], end_stream=True)
    server.turn()
    assert http2.room == 1
    server.frames.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    server.turn()
    assert (http2.room, http2.width) == (0, 1)
    http2.receive(settings(MAX_CONCURRENT_STREAMS=2**32 - 1))
    assert http2.width == MAX_STREAMS


def test_a_body_goes_out_as_the_windows_open() -> None:
    http2 = client(greeted=False)
    server = Server(http2, INITIAL_WINDOW_SIZE=10)
    body = bytes(range(250)) * 200
    http2.start(Post(a_send(body), "c0="), 0.0)
    server.turn()
    assert server.bodies[1] == body[:10]
    server.frames.increment_flow_control_window(7, 1)
    server.turn()
    server.turn()
    assert server.bodies[1] == body[:17]
    server.frames.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})  # 9 less than nothing
    server.turn()
    server.turn()
    server.frames.increment_flow_control_window(10, 1)
    server.turn()
    server.turn()
    assert server.bodies[1] == body[:18]
    assert not server.whole
    server.frames.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65535})
    server.turn()
    server.turn()
    assert server.bodies[1] == body
    assert server.whole == {1}


def test_the_window_of_the_connection_holds_for_all_requests_together() -> None:
    http2 = client(greeted=False)
    server = Server(http2)
    body = bytes(30_000)
    for at in range(3):
        assert http2.room
        http2.start(Post(a_send(body), f"c{at}="), 0.0)
    assert http2.room == 0  # 65535 bytes are out
    server.turn()
    assert [len(body) for body in server.bodies.values()] == [30_000, 30_000, 5_535]
    server.frames.increment_flow_control_window(24_465)
    server.turn()
    server.turn()
    assert len(server.bodies[5]) == 30_000
    assert http2.room == 0
    server.frames.increment_flow_control_window(1)
    server.turn()
    assert http2.room


def test_an_answer_before_the_end_of_the_body_cancels_the_rest() -> None:
    http2 = client(greeted=False)
    server = Server(http2, INITIAL_WINDOW_SIZE=10)
    http2.start(Post(a_send(bytes(100)), "c0="), 0.0)
    server.turn()
    server.frames.send_headers(1, [(":status", "413")], end_stream=True)
    assert said(server.turn()) == [("c0=", Response(413, "", keep_alive=True))]
    assert server.cancelled == {1}
    server.frames.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    server.turn()
    assert len(server.bodies[1]) == 10


@pytest.mark.parametrize("size", [0, 100, 4096, 65536])
def test_the_server_chooses_the_size_of_its_table_at_any_time(size: int) -> None:
    http2 = client(greeted=False)
    server = Server(http2, HEADER_TABLE_SIZE=size)
    first, second = a_send(b"1"), a_send(b"22")
    for send in (first, first, second, first, second, second):
        http2.start(Post(send, "c="), 0.0)
    server.turn()
    server.frames.update_settings({SettingCodes.HEADER_TABLE_SIZE: 50})
    server.frames.update_settings({SettingCodes.HEADER_TABLE_SIZE: 4000})
    server.turn()
    for send in (second, second, first):
        http2.start(Post(send, "c="), 0.0)
    server.turn()
    lengths = [fields["content-length"] for fields in server.requests.values()]
    assert lengths == ["1", "1", "2", "1", "2", "2", "2", "2", "1"]
    assert len({fields["x-amz-security-token"] for fields in server.requests.values()}) == 1


def test_a_request_that_is_longer_than_a_frame_goes_out_in_several() -> None:
    http2 = client(greeted=False)
    server = Server(http2)
    server.frames.max_inbound_frame_size = 16384
    server.frames.local_settings.max_header_list_size = 2**20
    http2.start(Post(a_send(), "x" * 40_000), 0.0)
    server.turn()
    assert server.requests[1][":path"].endswith("x" * 40_000)
    assert server.bodies[1] == b"hello"


def test_goodbye_refuses_what_is_later_and_lets_the_others_end() -> None:
    http2 = client(posts=3)
    events = http2.receive(frame(GOAWAY, 0, 0, number(2**31 - 1) + number(0)))  # the gentle announcement
    assert (events, http2.room, http2.leaving) == ([], 0, True)
    events = http2.receive(frame(GOAWAY, 0, 0, number(3) + number(0)))
    assert said(events) == [("c2=", Reset("the server goes away: 0", refused=True))]
    http2.receive(settings(MAX_CONCURRENT_STREAMS=100))
    assert http2.room == 0
    events = http2.receive(frame(HEADERS, END_HEADERS | END, 1, OK))
    assert said(events) == [("c0=", Response(200, "", keep_alive=True))]
    assert list(http2.streams) == [3]


def test_a_server_may_ask_for_http1() -> None:
    http2 = client(posts=2)
    events = http2.receive(frame(RST, 0, 3, number(0xD)))
    assert said(events) == [("c1=", Reset("reset by the server: 13", refused=True))]
    assert http2.needs_http1
    assert http2.leaving
    http2 = client()
    http2.receive(frame(GOAWAY, 0, 0, number(0) + number(0xD)))
    assert http2.needs_http1


def test_an_answer_to_a_request_that_was_given_up_does_not_count() -> None:
    http2 = client(posts=2)
    http2.forget(1)
    assert http2.leaving
    events = http2.receive(
        frame(HEADERS, END_HEADERS, 1, GONE)
        + frame(DATA, END, 1, b"{}")
        + frame(HEADERS, END_HEADERS | END, 3, GONE)
    )
    assert said(events) == [("c1=", Response(410, "GoneException", keep_alive=True))]
    assert not http2.error


def test_the_server_may_send_any_number_of_bytes_in_time() -> None:
    http2 = client(posts=1)
    assert sent(http2).count(frame(WINDOW, 0, 0, number(2**31 - 1 - 65535))) == 1
    http2.receive(frame(HEADERS, END_HEADERS, 1, OK))
    http2.receive(frame(DATA, 0, 1, bytes(16384)) * 1024)
    assert sent(http2) == frame(WINDOW, 0, 0, number(2**24))
    assert said(http2.receive(frame(DATA, END, 1))) == [("c0=", Response(200, "", keep_alive=True))]
