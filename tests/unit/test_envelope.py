"""Whatever a client sends becomes an action or an error with a code; what is built is what JSON says."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomcast import envelope
from roomcast.errors import ActionError, EnvelopeTooLargeError, InvalidDataError
from roomcast.store.presence import Presence
from roomcast.store.replay import Message, Position, Recovery

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def code_of(body: object) -> str:
    with pytest.raises(ActionError) as caught:
        envelope.parse(body)
    return caught.value.code


def test_an_action_has_a_name_an_id_and_fields() -> None:
    action = envelope.parse('{"action": "chat:join_room", "id": "7", "roomId": "r1"}')
    assert action == envelope.Action("chat:join_room", {"roomId": "r1"}, "7")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, "invalid_json"),
        ("", "invalid_json"),
        ("hello", "invalid_json"),
        ('{"action": "ping"', "invalid_json"),
        ('{"action": "ping"} x', "invalid_json"),
        ('{"action": "ping", "a": NaN}', "invalid_json"),
        ('{"action": "ping", "a": -Infinity}', "invalid_json"),
        ('{"action": "ping", "a": 1e999}', "invalid_json"),
        ('{"action": "ping", "a": ' + "9" * 400 + "}", "invalid_json"),
        ('{"action": "ping", "a": ' + "9" * 5000 + "}", "invalid_json"),
        ('{"action": "ping", "action": "ping"}', "invalid_json"),
        ('{"action": "ping", "a": {"b": 1, "b": 2}}', "invalid_json"),
        (r'{"action": "ping", "a": "\ud800"}', "invalid_json"),
        (r'{"action": "ping", "\ud800": 1}', "invalid_json"),
        ('{"action": "ping", "a": "\ud800"}', "invalid_json"),
        ("[]", "invalid_message"),
        ('"ping"', "invalid_message"),
        ("null", "invalid_message"),
        ("{}", "missing_action"),
        ('{"action": 1}', "invalid_action"),
        ('{"action": null}', "invalid_action"),
        ('{"action": ""}', "invalid_action"),
        ('{"action": "' + "a" * 129 + '"}', "invalid_action"),
        ('{"action": "ping", "id": 7}', "invalid_id"),
        ('{"action": "ping", "id": ""}', "invalid_id"),
        ('{"action": "ping", "a": "' + "x" * 32_768 + '"}', "too_large"),
        ('{"action": "ping", "a": "' + "\u20ac" * 11_000 + '"}', "too_large"),
        ('{"action": "ping", "a": ' + "[" * 16 + "1" + "]" * 16 + "}", "too_deep"),
        ('{"action": "ping", "a": ' + "[" * 1000 + "]" * 1000 + "}", "too_deep"),
        ("[" * 16_000 + "]" * 16_000, "too_deep"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "too_deep"),
    ],
)
def test_a_bad_message_has_its_code(body: object, code: str) -> None:
    assert code_of(body) == code


def test_the_id_of_a_bad_action_is_kept_for_the_reply() -> None:
    with pytest.raises(ActionError) as caught:
        envelope.parse('{"id": "7"}')
    assert caught.value.reply_to == "7"


def test_a_message_may_be_as_large_and_as_deep_as_the_limits() -> None:
    head = '{"action":"ping","a":"'
    assert envelope.parse(head + "x" * (envelope.MAX_ENVELOPE_BYTES - len(head) - 2) + '"}').name == "ping"
    assert envelope.parse('{"action":"ping","a":' + "[" * 15 + "1" + "]" * 15 + "}").name == "ping"


@given(st.text() | st.binary().map(lambda data: data.decode(errors="surrogateescape")))
def test_any_text_is_an_action_or_an_action_error(body: str) -> None:
    try:
        assert envelope.parse(body).name
    except ActionError as error:
        assert error.code


@given(st.dictionaries(st.text(min_size=1), json_values, max_size=4))
def test_what_json_writes_is_read_back(fields: dict[str, Any]) -> None:
    message = {**fields, "action": "ping"}
    message.pop("id", None)
    try:
        action = envelope.parse(json.dumps(message))
    except ActionError as error:
        assert error.code in {"too_deep", "invalid_json"}  # deep, or a number that no double holds
    else:
        assert {"action": action.name, **action.fields} == message


@given(json_values)
def test_an_envelope_is_its_parts_in_json(data: object) -> None:
    text = envelope.build("e", data, id="i", room="r", reply_to="x", now=1737109800)
    assert json.loads(text) == {
        "event": "e",
        "data": data,
        "timestamp": "2025-01-17T10:30:00.000Z",
        "id": "i",
        "room": "r",
        "replyTo": "x",
    }


def test_keys_that_do_not_apply_are_left_out() -> None:
    assert set(json.loads(envelope.build("pong", {}))) == {"event", "data", "timestamp"}


@pytest.mark.parametrize(
    "data", [float("nan"), float("inf"), {1, 2}, b"x", object(), "\ud800", {"k": "\udfff"}, {("a",): 1}]
)
def test_data_that_json_cannot_hold_is_refused_and_kept(data: object) -> None:
    with pytest.raises(InvalidDataError) as caught:
        envelope.build("e", data)
    assert caught.value.data is data


def test_a_circle_and_a_deep_nest_are_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for data in (circle, deep):
        with pytest.raises(InvalidDataError):
            envelope.build("e", data)


@pytest.mark.parametrize("event", ["", "x" * 129, 7, None])
def test_an_event_needs_a_name(event: Any) -> None:
    with pytest.raises(InvalidDataError, match="the name must be"):
        envelope.build(event, {})


def test_the_size_limit_counts_bytes_not_characters() -> None:
    fits = "\u20ac" * 10_800
    assert len(envelope.build("e", fits).encode()) <= envelope.MAX_ENVELOPE_BYTES
    with pytest.raises(EnvelopeTooLargeError) as caught:
        envelope.build("e", "\u20ac" * 11_000)
    assert caught.value.size > caught.value.limit == 32 * 1024


def test_ids_are_version_7_unique_and_sorted_by_time() -> None:
    ids = [envelope.new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(UUID(i).version, UUID(i).variant) for i in ids} == {(7, "specified in RFC 4122")}
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


def test_what_a_backend_gets_is_an_object_in_json() -> None:
    at = Position("e", 7)
    told = Recovery(at, recovered=True, messages=(Message(7, "i", "{}"),))
    data = json.loads(envelope.build("e", {"told": told, "online": Presence(1, 2, {"u1": "Ann"})}))["data"]
    assert data == {
        "told": {
            "position": {"epoch": "e", "seq": 7},
            "recovered": True,
            "messages": [{"seq": 7, "id": "i", "envelope": "{}", "sentAt": 0}],
            "more": False,
        },
        "online": {"version": 1, "count": 2, "users": {"u1": "Ann"}},
    }
    assert envelope.plain(told) == data["told"]


def test_such_a_value_does_not_change() -> None:
    at = Position("e", 7)
    assert at == Position("e", 7) != Position("e", 8)
    assert len({at, Position("e", 7), at._replace(seq=8)}) == 2
    assert repr(at) == "Position(epoch='e', seq=7)"
    with pytest.raises(AttributeError, match="seq of a Position does not change"):
        at.seq = 8
