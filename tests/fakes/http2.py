"""The fake management API over HTTP/2: the `h2` library reads its frames, and refuses what is not legal."""

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings

if TYPE_CHECKING:
    from tests.fakes.management_api import FakeManagementApi, Reply, Request


def serve(settings: dict[SettingCodes, int]) -> H2Connection:
    """The server's side of a connection, which has said these settings."""
    frames = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    frames.local_settings = Settings(client=False, initial_values=settings)
    frames.decoder.max_allowed_table_size = frames.local_settings.header_table_size
    frames.decoder.header_table_size = min(4096, frames.local_settings.header_table_size)
    frames.initiate_connection()
    return frames


class Http2Conversation(asyncio.Protocol):
    """One TCP connection, any number of requests at once.

    Attributes:
        frames: of the connection, for tests that send what no reply has.
        most: requests that were open at the same time.
    """

    def __init__(self, api: "FakeManagementApi") -> None:
        self._api = api
        self._transport: asyncio.Transport | None = None
        self._requests: dict[int, tuple[dict[str, str], bytearray]] = {}
        self._open: set[int] = set()
        self.most = 0
        self.frames = serve(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: api.streams,
                SettingCodes.INITIAL_WINDOW_SIZE: api.window,
                SettingCodes.HEADER_TABLE_SIZE: api.table,
            }
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._api._conversations.add(self)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._api._conversations.discard(self)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what the frames have queued."""
        self.write(self.frames.data_to_send())

    def go_away(self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Process no request after `last`, and say so; the connection stays."""
        self._open = {stream for stream in self._open if stream <= last}
        self.write(b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + int(code).to_bytes(4, "big"))

    def data_received(self, data: bytes) -> None:
        for event in self.frames.receive_data(data):
            if isinstance(event, RequestReceived):
                headers = {str(name): str(value) for name, value in event.headers}
                self._requests[event.stream_id] = headers, bytearray()
                self._open.add(event.stream_id)
                self.most = max(self.most, len(self._open))
            elif isinstance(event, DataReceived):
                self._requests[event.stream_id][1].extend(event.data)
                self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self._requested(event.stream_id, *self._requests.pop(event.stream_id))
            elif isinstance(event, StreamReset):
                self._requests.pop(event.stream_id, None)
                self._open.discard(event.stream_id)
        self.flush()

    def _requested(self, stream: int, headers: dict[str, str], body: bytearray) -> None:
        from tests.fakes.management_api import FORBIDDEN, Request

        path = headers[":path"]
        base, found, name = path.rpartition("/@connections/")
        assert found, f"no management API path: {path}"
        assert int(headers.get("content-length", "0")) == len(body)
        loop = asyncio.get_running_loop()
        fields = {"host": headers[":authority"], **headers}
        request = Request(headers[":method"], path, unquote(name), fields, bytes(body), loop.time())
        reply = FORBIDDEN if base != self._api.stage else self._api.reply_to(request)
        if reply.delay:
            loop.call_later(reply.delay, self._reply, reply, stream, request)
        else:
            self._reply(reply, stream, request)

    def _reply(self, reply: "Reply", stream: int, request: "Request") -> None:
        if self._transport is None or reply.how == "hang" or stream not in self._open:
            return
        if reply.how == "garbage":
            self.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            return
        if reply.how == "reset":
            self._transport.abort()
            return
        self._open.discard(stream)
        if reply.how == "refused":
            self.frames.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif reply.how == "reset_stream":
            self.frames.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        else:
            self._answer(reply, stream, request)
        self.flush()
        if reply.how == "half":
            asyncio.get_running_loop().call_later(0.02, self.hang_up)
            return
        if reply.then == "close":
            self.frames.close_connection(last_stream_id=stream)
            self.flush()
        if reply.then != "keep":
            self._transport.close()

    def _answer(self, reply: "Reply", stream: int, request: "Request") -> None:
        from tests.fakes.management_api import error_body

        headers = [(":status", str(reply.status)), ("x-amzn-requestid", f"c6af9ac6-{stream}")]
        if reply.error:
            headers.append(("x-amzn-errortype", reply.error))
        body = error_body(reply, request)
        half = reply.how in ("half", "half_stream")
        self.frames.send_headers(stream, headers, end_stream=not body and not half)
        if reply.how == "half_stream":
            self.frames.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif body and not half:
            self.frames.send_data(stream, body, end_stream=True)
