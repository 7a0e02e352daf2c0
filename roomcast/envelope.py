"""The wire format: parse what a client sends, build what the server says. Pure.

A client sends `{"action": "...", "id": "...", ...fields}`; the server answers and sends
`{"event": "...", "data": {...}, "timestamp": "2025-01-17T10:30:00.000Z"}`, with `id`, `room`, `from`
and `replyTo` as well where they apply.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from roomcast.errors import ActionError, EnvelopeTooLargeError, InvalidDataError
from roomcast.values import Value

MAX_ENVELOPE_BYTES = 32 * 1024
"""The limit in each direction. API Gateway takes messages of 128 KB but frames of 32 KB, a browser gives
no control over frames, and messages are billed in units of 32 KB: so one frame, one unit.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
"""
MAX_STREAM_ENVELOPE_BYTES = MAX_ENVELOPE_BYTES - 2048
"""Of a send to a room with a history: one message and what is around it fit into one page of a replay."""
MAX_DEPTH = 16
MAX_NAME_CHARS = 128
"""Of an action, an event and a client's `id`."""
_MAX_INT_DIGITS = 308  # more digits overflow a double, and so every JavaScript client


class Action(NamedTuple):
    """What a client asks for."""

    name: str
    fields: Mapping[str, object]
    id: str | None = None


def parse(body: object) -> Action:
    """Read one message of a client.

    Args:
        body: the text as API Gateway hands it over (`event["body"]`).

    Raises:
        ActionError: `too_large`, `invalid_json` (no JSON, a key twice, NaN or Infinity, a number that no
            double holds, a lone surrogate), `too_deep` (over 16 levels), `invalid_message` (no object),
            `missing_action`, `invalid_action`, `invalid_id`. Nothing else is raised, whatever the body.
    """
    if not isinstance(body, str) or not body:
        raise ActionError("invalid_json", "The message must be a JSON object in a text frame")
    if len(body) > MAX_ENVELOPE_BYTES or len(body.encode(errors="surrogatepass")) > MAX_ENVELOPE_BYTES:
        raise ActionError("too_large", f"The message must be at most {MAX_ENVELOPE_BYTES} bytes")
    try:
        value = _DECODER.decode(body)
        _check_depth(value)
        # Only an escape or a broken transport makes a lone surrogate; encoding finds it wherever it is.
        if "\\u" in body or not body.isascii():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise _TOO_DEEP from None
    except ValueError as error:  # json.JSONDecodeError, UnicodeEncodeError and our own hooks
        raise ActionError("invalid_json", "The message is not valid JSON") from error
    if not isinstance(value, dict):
        raise ActionError("invalid_message", "The message must be a JSON object")
    action_id = value.pop("id", None)
    if action_id is not None and not _is_name(action_id):
        raise ActionError("invalid_id", f"id must be a string of 1 to {MAX_NAME_CHARS} characters")
    if "action" not in value:
        raise ActionError("missing_action", "The message has no action", reply_to=action_id)
    name = value.pop("action")
    if not _is_name(name):
        message = f"action must be a string of 1 to {MAX_NAME_CHARS} characters"
        raise ActionError("invalid_action", message, reply_to=action_id)
    return Action(name, value, action_id)


def build(
    event: str,
    data: object,
    *,
    id: str | None = None,  # noqa: A002  the key's name on the wire
    room: str | None = None,
    seq: int | None = None,
    epoch: str | None = None,
    sender: Mapping[str, object] | None = None,
    reply_to: str | None = None,
    connection: Mapping[str, object] | None = None,
    now: float | None = None,
) -> str:
    """Write one envelope as compact JSON.

    Args:
        event: its name, 1 to 128 characters.
        data: the application's part; anything that JSON holds, and dataclasses. It goes out as it is:
            escaping belongs to the place where it is shown.
        id: the send's id, from `new_id()`; a receiver drops an id that it has seen.
        room: the room that was sent to.
        seq: the message's number in the room's stream.
        epoch: which life of the stream that is.
        sender: who has published it, if it was a client: `from` on the wire.
        reply_to: the `id` of the action that this answers.
        connection: what the client should know about its connection.
        now: epoch seconds for `timestamp`; the clock when left out.

    Raises:
        InvalidDataError: the name is wrong, or JSON cannot hold the data (NaN, a lone surrogate, a type
            without a JSON form, a circle).
        EnvelopeTooLargeError: over `MAX_ENVELOPE_BYTES`, or with a number over
            `MAX_STREAM_ENVELOPE_BYTES`.
    """
    if not _is_name(event):
        raise InvalidDataError(event, data, f"the name must be a string of 1 to {MAX_NAME_CHARS} characters")
    envelope: dict[str, object] = {"event": event, "data": data, "timestamp": timestamp(now)}
    beside = {
        "id": id,
        "room": room,
        "seq": seq,
        "epoch": epoch,
        "from": sender,
        "replyTo": reply_to,
        "connection": connection,
    }
    envelope.update({key: value for key, value in beside.items() if value is not None})
    try:
        text = _ENCODER.encode(envelope)
        size = len(text.encode())
    except RecursionError:
        raise InvalidDataError(event, data, "data is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise InvalidDataError(event, data, f"JSON cannot hold data: {error}") from error
    most = MAX_ENVELOPE_BYTES if seq is None else MAX_STREAM_ENVELOPE_BYTES
    if size > most:
        raise EnvelopeTooLargeError(event, size, most)
    return text


def plain(data: object) -> object:
    """Data as it goes out: a dataclass is an object whose keys are its fields, `order_id` as `orderId`."""
    if _has_fields(data):
        data = of_dataclass(data)
    if isinstance(data, Mapping):
        return {key: plain(value) for key, value in data.items()}
    return [plain(value) for value in data] if isinstance(data, list | tuple) else data


def timestamp(now: float | None = None) -> str:
    """Epoch seconds (the clock when left out) as `2025-01-17T10:30:00.000Z`."""
    milliseconds = round((time.time() if now is None else now) * 1e6) // 1000
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{seconds}.{milliseconds % 1000:03d}Z"


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and sorted by the millisecond it was made in."""
    # uuid.uuid7 comes with Python 3.14; Lambda and laptops are on older ones.
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    digits = f"{value:032x}"
    return "-".join(digits[begin:end] for begin, end in pairwise((0, 8, 12, 16, 20, 32)))


_TOO_DEEP = ActionError("too_deep", f"The message must be nested at most {MAX_DEPTH} deep")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise _TOO_DEEP


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _int(text: str) -> int:
    if len(text) > _MAX_INT_DIGITS:
        raise ValueError("a number is too large")
    return int(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_int=_int, parse_constant=_constant
)


def of_dataclass(value: object) -> dict[str, object]:
    """The object that a dataclass or a `Value` is on the wire, for `json`.

    Raises:
        TypeError: it is something else.
    """
    if not _has_fields(value):
        raise TypeError(f"an object of {type(value).__name__} has no JSON form")
    from roomcast.schema import on_wire

    if isinstance(value, Value):
        return {on_wire(name): one for name, one in vars(value).items()}
    from dataclasses import fields

    return {on_wire(field.name): getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]


def _has_fields(value: object) -> bool:
    return isinstance(value, Value) or hasattr(type(value), "__dataclass_fields__")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=of_dataclass)
