"""HPACK (RFC 7541), as much of it as a client needs that lets the server keep no table. Pure.

`SETTINGS_HEADER_TABLE_SIZE` of 0 binds the server to header blocks that refer to nothing but the static
table, so each is read by itself: of a success the first byte says it all, and only the fields of a failure
are walked. What this side writes may go into the server's table, and is never Huffman coded.
"""

import functools
from collections.abc import Iterator

from roomcast.management_api.http1 import BadResponseError

_STATUSES = {8: b"200", 9: b"204", 10: b"206", 11: b"304", 12: b"400", 13: b"404", 14: b"500"}
_SUCCESSES = {0x80 | 8: 200, 0x80 | 9: 204, 0x80 | 10: 206}
_LAST_STATIC = 61
_STATUS, _ERROR = b":status", b"x-amzn-errortype"
_MAX_INTEGER = 2**24  # no block is as long
_MAX_TEXT = 256  # bytes of a name or a value that can matter here
# Appendix B: how many bits the code of each symbol has, as a digit of base 36. The codes follow from that:
# they are in the order of their lengths, and then of their symbols.
_LENGTHS = (
    "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6"
    "f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn"
    "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu"
)
_END_OF_TEXT = 256


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Write a whole number into the last bits of the byte `first` and the bytes after it (section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = [first | most]
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def literal(text: str) -> bytes:
    """Write a string with its length (section 5.2)."""
    data = text.encode("latin-1")
    return integer(len(data), 7) + data


def read_response(block: bytes) -> tuple[int, str]:
    """Read what the header block of a response says.

    Args:
        block: the whole block.

    Returns:
        The status; and of a status from 300 the value of `x-amzn-ErrorType`, else empty.

    Raises:
        BadResponseError: not the header block of a response, or it needs a table that was not allowed.
    """
    if block[:1] and block[0] in _SUCCESSES:
        return _SUCCESSES[block[0]], ""
    status, error = b"", b""
    try:
        for name, value in _fields(block):
            if name == _STATUS:
                status = status or value
            elif name == _ERROR:
                error = error or value
    except IndexError:
        raise BadResponseError("a header block that is cut off") from None
    if len(status) != 3 or not status.isdigit():
        raise BadResponseError("a header block without a status")
    return int(status), error.split(b":")[0].decode("latin-1") if status >= b"300" else ""


def _fields(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The fields that matter; the others are stepped over."""
    at = 0
    begun = False
    while at < len(block):
        first = block[at]
        if first >= 0x80:  # a field of the static table
            index, at = _integer(block, at, 7)
            if not 0 < index <= _LAST_STATIC:
                raise BadResponseError("a header block that needs a table")
            if index in _STATUSES:
                yield _STATUS, _STATUSES[index]
        elif 0x20 <= first < 0x40:
            size, at = _integer(block, at, 5)
            if size or begun:
                raise BadResponseError("a table size that was not allowed")
            continue
        else:  # a literal, whether or not it would go into the table
            index, at = _integer(block, at, 6 if first >= 0x40 else 4)
            if index > _LAST_STATIC:
                raise BadResponseError("a header block that needs a table")
            if index:
                name = _STATUS if index in _STATUSES else b""
            else:
                start, at = at, _after_text(block, at)
                name = _text(block[start:at])
            start, at = at, _after_text(block, at)
            if name in (_STATUS, _ERROR):
                yield name, _text(block[start:at])
        begun = True


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A whole number, and where it ends."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if value > _MAX_INTEGER or shift > 28:
            raise BadResponseError("a number without an end in a header block")


def _after_text(block: bytes, at: int) -> int:
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise BadResponseError("a header block that is cut off")
    return at + length


def _text(coded: bytes) -> bytes:
    """A string without its length, decoded; of one that is too long to matter, nothing."""
    return _decoded(coded) if len(coded) <= _MAX_TEXT else b""


@functools.lru_cache(maxsize=64)  # the names and values of failures are few, and come by the thousand
def _decoded(coded: bytes) -> bytes:
    _, start = _integer(coded, 0, 7)
    return _unhuffman(coded[start:]) if coded[0] & 0x80 else coded[start:]


def _unhuffman(coded: bytes) -> bytes:
    symbols = _symbols()
    out = bytearray()
    code, length = 0, 0
    for byte in coded:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = symbols.get((length, code))
            if symbol is None:
                continue
            if symbol == _END_OF_TEXT:
                raise BadResponseError("the end of a text within a text")
            out.append(symbol)
            code, length = 0, 0
    if length > 7 or code != (1 << length) - 1:
        raise BadResponseError("a text with a wrong end")
    return bytes(out)


@functools.cache
def _symbols() -> dict[tuple[int, int], int]:
    """The symbols by the lengths of their codes and the codes."""
    lengths = [int(digit, 36) for digit in _LENGTHS]
    symbols: dict[tuple[int, int], int] = {}
    code, last = 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        code <<= length - last
        symbols[length, code] = symbol
        code, last = code + 1, length
    return symbols
