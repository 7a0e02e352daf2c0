"""The answers of HTTP/1.1, read from the bytes of a kept connection. Pure."""

import re
from typing import NamedTuple

from roomcast.errors import RoomcastError

_MAX_HEAD = 64 * 1024
_NAMES = rb"content-length|transfer-encoding|connection|x-amzn-errortype"
_find_fields = re.compile(rb"\r\n(" + _NAMES + rb"):([^\r\n]*)", re.IGNORECASE).findall


class Response(NamedTuple):
    """What the management API said.

    Attributes:
        status: HTTP's.
        error: the value of `x-amzn-ErrorType`, or empty.
        keep_alive: whether the connection can take another request.
    """

    status: int
    error: str
    keep_alive: bool


class BadResponseError(RoomcastError):
    """What came is not HTTP/1.x. It stays inside this folder: the post ends as `unknown`."""


def parse_response(data: bytes, *, ended: bool) -> Response | None:
    """Read one response; None while it is not whole.

    Args:
        data: all bytes since the request.
        ended: the server has closed, which ends a response without a length.

    Raises:
        BadResponseError: not HTTP/1.x, or more than one response.
    """
    while True:
        cut = data.find(b"\r\n\r\n")
        if cut < 0:
            if not b"HTTP/1.".startswith(data[:7]) or len(data) > _MAX_HEAD:
                raise BadResponseError("not an HTTP/1.x response")
            return None
        digits = data[9:12]
        if data[:7] != b"HTTP/1." or not digits.isdigit():
            raise BadResponseError("not an HTTP/1.x response")
        status = int(digits)
        if status >= 200:
            break
        data = data[cut + 4 :]  # 100 Continue and its like come before the response
    fields: dict[bytes, bytes] = {}
    for name, value in _find_fields(data, 0, cut):
        fields.setdefault(name.lower(), value.strip())
    length = fields.get(b"content-length")
    if b"transfer-encoding" in fields:
        end = _end_of_chunks(data, cut + 4)
        if end is None:
            return None
    elif status in (204, 304):
        end = cut + 4
    elif length is not None:
        if not length.isdigit():
            raise BadResponseError("a content-length that is not a number")
        end = cut + 4 + int(length)
    else:
        if not ended:
            return None
        end = len(data)
    if len(data) < end:
        return None
    if len(data) > end:
        raise BadResponseError("more bytes than the response has")
    option = fields.get(b"connection", b"").lower()
    keep_alive = not ended and option != b"close" and (data[7:8] != b"0" or option == b"keep-alive")
    error = fields.get(b"x-amzn-errortype", b"").split(b":")[0] if status >= 300 else b""
    return Response(status, error.decode("latin-1"), keep_alive)


def _end_of_chunks(data: bytes, at: int) -> int | None:
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        try:
            size = int(data[at:line].split(b";")[0], 16)
        except ValueError:
            raise BadResponseError("a chunk size that is not a number") from None
        if size < 0:
            raise BadResponseError("a chunk size below zero")
        if size == 0:
            break
        at = line + 2 + size + 2
    # Trailers, if any, end with an empty line as well.
    if data[line : line + 4] == b"\r\n\r\n":
        return line + 4
    end = data.find(b"\r\n\r\n", line)
    return None if end < 0 else end + 4
