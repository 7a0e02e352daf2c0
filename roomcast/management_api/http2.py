"""HTTP/2 (RFC 9113), as a client speaks it that only posts: the frames of one connection, both ways. Pure.

Bytes that come go into `Http2.receive`, which returns what became of requests; bytes to be sent wait in
`Http2.queue`. The bodies of answers are counted and thrown away. Whatever a server can pile up has a bound.
"""

import struct

from roomcast.management_api.hpack import read_response
from roomcast.management_api.http1 import BadResponseError, Response
from roomcast.management_api.http2_head import Head
from roomcast.management_api.http2_stream import Event, Reset, Stream
from roomcast.management_api.send import Post

MAX_STREAMS = 128
"""Requests that are out at once on one connection, if the server allows as many."""

_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _WITH_PRIORITY = 0x4, 0x8, 0x20
_WHOLE = _END_STREAM | _END_HEADERS
_REFUSED, _HTTP_1_1_REQUIRED = 0x7, 0xD
_CANCEL = b"\0\0\0\x08"
_TABLE_SIZE, _PUSHES, _STREAMS, _FIRST_WINDOW, _FRAME_SIZE = range(1, 6)
_FRAME = 16384  # bytes; every peer takes as many, and none may send more unless told
_HEAD = 64 * 1024  # bytes of one header block
_FRAMES = 10_000  # between two answers; a server that sends more is at something else
_MOST = 2**31 - 1  # of a window, and of a stream's number
_LAST = _MOST - 4 * MAX_STREAMS  # the first number after which a connection takes no further request
_RENEWED = 2**24  # bytes of answers after which the server may send as many again
_DEFAULT_WINDOW = 65535
_OK = Response(200, "", keep_alive=True)
_pack = struct.Struct(">BHBBL").pack
_unpack = struct.Struct(">BHBBL").unpack_from


class _Body:
    """What the server's windows have no room for yet, and how many bytes of it the server takes."""

    __slots__ = ("rest", "window")

    def __init__(self, body: bytes, window: int) -> None:
        self.rest = memoryview(body)
        self.window = window


class Http2:
    """The frames of one connection.

    Attributes:
        queue: what is to be sent; whoever sends it empties the list.
        queued: how many bytes were ever put there.
        streams: the requests that are out, the oldest first, by number.
        width: how many the server allows.
        limit: how many may be out: none before the server's settings have come, and no more once one side has
            said, or done, what ends the connection.
        leaving: whether that is so.
        needs_http1: whether the server asks for HTTP/1.1.
        error: what the server did wrong, which ends the connection; or empty.
    """

    def __init__(self) -> None:
        self.queue: list[bytes] = []
        self.queued = 0
        self.streams: dict[int, Stream] = {}
        self.width = MAX_STREAMS
        self.limit = 0
        self.leaving = self.needs_http1 = False
        self.error = ""
        self._events: list[Event] = []
        self._data = b""
        self._frames = 0
        self._next = 1
        self._block = b""
        self._block_of = 0  # the stream whose header block has begun
        self._block_ends = False  # whether the answer ends with it
        self._received = 0
        self._window = self._first_window = _DEFAULT_WINDOW
        self._blocked: dict[int, _Body] = {}
        self._ready = False
        self._table = 4096
        self._resized = b""
        self._entered: Head | None = None  # whose fields are the last ones in the server's table
        self._put(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        ours = struct.pack(">HLHLHL", _TABLE_SIZE, 0, _PUSHES, 0, _FIRST_WINDOW, _MOST)
        self._put_frame(_SETTINGS, 0, 0, ours)
        self._put_frame(_WINDOW, 0, 0, (_MOST - _DEFAULT_WINDOW).to_bytes(4, "big"))

    @property
    def room(self) -> int:
        """How many more requests may go out."""
        return max(self.limit - len(self.streams), 0) if self._window > 0 else 0

    @property
    def ready(self) -> bool:
        """Whether the server's settings have come."""
        return self._ready

    def leave(self) -> None:
        """Take no further request."""
        self.leaving = True
        self.limit = 0

    # Requests.

    def start(self, post: Post, now: float) -> None:
        """Queue the request of `post`."""
        signer = post.send.signer
        name, signature = signer.sign(post.connection_id)
        head = signer.head
        if head is None:
            head = signer.head = Head(signer)
        if head is self._entered:
            form = head.referred
        elif head.size <= self._table:
            form = head.entered
            self._entered = head
        else:
            form = head.plain
        block = head.block(form, name, signature)
        if self._resized:
            block, self._resized = self._resized + block, b""
        number = self._next
        self._next = number + 2
        if number > _LAST:
            self.leave()
        self.streams[number] = Stream(post, now, self.queued)
        body = signer.body
        size = len(body)
        if 0 < size <= self._first_window and size <= self._window and size <= _FRAME >= len(block):
            self._window -= size
            first = _pack(0, len(block), _HEADERS, _END_HEADERS, number)
            data = b"%b%b%b%b" % (first, block, _pack(0, size, _DATA, _END_STREAM, number), body)
            self.queue.append(data)
            self.queued += len(data)
            return
        self._put_head(number, block, 0 if size else _END_STREAM)
        if size:
            self._blocked[number] = _Body(body, self._first_window)
            self._put_rests()

    def forget(self, number: int) -> None:
        """Give one request up; the connection takes no others."""
        del self.streams[number]
        self._blocked.pop(number, None)
        self.leave()

    def _put(self, data: bytes) -> None:
        self.queue.append(data)
        self.queued += len(data)

    def _put_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._put(_pack(0, len(payload), kind, flags, number) + payload)

    def _put_head(self, number: int, block: bytes, flags: int) -> None:
        kind = _HEADERS
        while len(block) > _FRAME:
            self._put_frame(kind, flags, number, block[:_FRAME])
            kind, flags, block = _CONTINUATION, 0, block[_FRAME:]
        self._put_frame(kind, flags | _END_HEADERS, number, block)

    def _put_rests(self) -> None:
        """Queue as much of the bodies as the windows have room for."""
        for number, body in list(self._blocked.items()):
            while (count := min(len(body.rest), body.window, self._window, _FRAME)) > 0:
                part, body.rest = body.rest[:count], body.rest[count:]
                body.window -= count
                self._window -= count
                self._put_frame(_DATA, 0 if body.rest else _END_STREAM, number, bytes(part))
            if not body.rest:
                del self._blocked[number]

    # Answers.

    def receive(self, data: bytes) -> list[Event]:
        """Take the bytes that came.

        Returns:
            The requests that have ended, and how. `error` is set where the bytes were not HTTP/2; what came
            before the fault counts.
        """
        if self._data:
            data = self._data + data
        at, end = 0, len(data)
        streams = self.streams
        events = self._events = []
        try:
            while end - at >= 9:
                high, low, kind, flags, number = _unpack(data, at)
                stop = at + 9 + low
                if high or low > _FRAME:
                    self._fail("a frame that is too long")
                    break
                if stop > end:
                    break
                if (
                    kind == _HEADERS
                    and flags == _WHOLE
                    and low
                    and data[at + 9] == 0x88  # 200, nearly always
                    and number in streams
                    and not self._blocked
                    and not self._block_of
                ):
                    self._frames = 0
                    events.append((streams.pop(number), _OK))
                elif (
                    kind == _RESET
                    and low == 4
                    and 0 < number < self._next
                    and number & 1
                    and number not in streams
                    and not self._block_of
                ):
                    self._frames += 1  # nginx sends one after each answer that did not need the body
                else:
                    self._take(kind, flags, number & _MOST, data[at + 9 : stop])
                at = stop
        except BadResponseError as error:
            self._fail(str(error))
        if self._frames > _FRAMES:
            self._fail("thousands of frames without an answer")
        self._data = data[at:]
        return events

    def _fail(self, reason: str) -> None:
        self.error = f"bad answer: {reason}"
        self.leave()

    def _end(self, number: int, how: Response | Reset) -> None:
        self._frames = 0
        if number in self._blocked:
            del self._blocked[number]
            if isinstance(how, Response):  # before all of the request was there, and the rest does not follow
                self._put_frame(_RESET, 0, number, _CANCEL)
        self._events.append((self.streams.pop(number), how))

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._frames += 1
        if self._block_of and (kind, number) != (_CONTINUATION, self._block_of):
            raise BadResponseError("a frame within a header block")
        if not self._ready and (kind != _SETTINGS or flags & _ACK):
            raise BadResponseError("no settings at the beginning")
        if kind > _CONTINUATION or kind == _PRIORITY:
            return
        of_connection = kind in (_SETTINGS, _PING, _GOAWAY)
        if kind != _WINDOW and of_connection != (number == 0):
            raise BadResponseError("a frame of the wrong stream")
        if number and (number % 2 == 0 or number >= self._next):
            raise BadResponseError("a stream that nobody has opened")
        if kind == _DATA:
            self._take_data(flags, number, payload)
        elif kind == _HEADERS:
            self._take_headers(flags, number, payload)
        elif kind == _CONTINUATION:
            self._take_continuation(flags, payload)
        elif kind == _RESET:
            self._take_reset(number, payload)
        elif kind == _SETTINGS:
            self._take_settings(flags, payload)
        elif kind == _PING:
            self._take_ping(flags, payload)
        elif kind == _GOAWAY:
            self._take_goaway(payload)
        elif kind == _WINDOW:
            self._take_window(number, payload)
        else:
            raise BadResponseError("a push that was not allowed")

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        _unpadded(flags, payload)
        self._received += len(payload)
        if self._received >= _RENEWED:
            self._put_frame(_WINDOW, 0, 0, self._received.to_bytes(4, "big"))
            self._received = 0
        stream = self.streams.get(number)
        if stream is None:
            return  # given up, or over
        if stream.response is None:
            raise BadResponseError("a body without a head")
        if flags & _END_STREAM:
            self._end(number, stream.response)

    def _take_headers(self, flags: int, number: int, payload: bytes) -> None:
        payload = _unpadded(flags, payload)
        self._block = payload[5:] if flags & _WITH_PRIORITY else payload
        self._block_of = number
        self._block_ends = bool(flags & _END_STREAM)
        if flags & _END_HEADERS:
            self._take_block()

    def _take_continuation(self, flags: int, payload: bytes) -> None:
        if not self._block_of:
            raise BadResponseError("a header block without a beginning")
        self._block += payload
        if len(self._block) > _HEAD:
            raise BadResponseError("a header block that is too long")
        if flags & _END_HEADERS:
            self._take_block()

    def _take_block(self) -> None:
        number, self._block_of = self._block_of, 0
        stream = self.streams.get(number)
        if stream is None:
            return  # given up, or over
        if stream.response is None:
            status, error = read_response(self._block)
            if status < 200:
                return  # 100 Continue and its like come before the answer
            stream.response = Response(status, error, keep_alive=True)
        elif not self._block_ends:
            raise BadResponseError("two heads")
        if self._block_ends:
            self._end(number, stream.response)

    def _take_reset(self, number: int, payload: bytes) -> None:
        code = _number(payload, 4)
        if code == _HTTP_1_1_REQUIRED:
            self.needs_http1 = True
            self.leave()
        if number in self.streams:
            self._end(number, Reset(f"reset by the server: {code}", code in (_REFUSED, _HTTP_1_1_REQUIRED)))

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % 6 or (flags & _ACK and payload):
            raise BadResponseError("settings of a wrong length")
        if flags & _ACK:
            return
        for key, value in struct.iter_unpack(">HL", payload):
            if key == _TABLE_SIZE:
                # Emptied, and then never more than the default: legal whatever it was and becomes.
                self._table = min(value, 4096)
                self._entered = None
                self._resized = Head.resize(self._table)
            elif key == _STREAMS:
                self.width = min(value, MAX_STREAMS)
            elif key == _FIRST_WINDOW:
                if value > _MOST:
                    raise BadResponseError("a window that is too large")
                for body in self._blocked.values():
                    body.window += value - self._first_window
                self._first_window = value
        self._ready = True
        self.limit = 0 if self.leaving else self.width
        self._put_frame(_SETTINGS, _ACK, 0, b"")
        self._put_rests()

    def _take_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise BadResponseError("a ping of a wrong length")
        if not flags & _ACK:
            self._put_frame(_PING, _ACK, 0, payload)

    def _take_goaway(self, payload: bytes) -> None:
        last = _number(payload[:4], 4) & _MOST
        code = _number(payload[4:8], 4)
        self.leave()
        self.needs_http1 = self.needs_http1 or code == _HTTP_1_1_REQUIRED
        for later in [number for number in self.streams if number > last]:
            self._end(later, Reset(f"the server goes away: {code}", refused=True))

    def _take_window(self, number: int, payload: bytes) -> None:
        more = _number(payload, 4) & _MOST
        if not more:
            raise BadResponseError("a window that does not grow")
        if not number:
            self._window += more
        elif number in self._blocked:
            self._blocked[number].window += more
        if max(self._window, *(body.window for body in self._blocked.values()), 0) > _MOST:
            raise BadResponseError("a window that is too large")
        self._put_rests()


def _number(payload: bytes, size: int) -> int:
    if len(payload) != size:
        raise BadResponseError("a frame of a wrong length")
    return int.from_bytes(payload, "big")


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise BadResponseError("more padding than there is")
    return payload[1 : len(payload) - payload[0]]
