"""The form of a job: the schema and the reader take the same jobs, and refuse the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import roomcast.sending.job
from roomcast.connection import Receiver
from roomcast.errors import JobError
from roomcast.sending.audience import ToRoom
from roomcast.sending.job import NewestJob, PostJob, SendJob, parse
from tests.builders import APP, chat

SCHEMA = Draft202012Validator(
    json.loads(Path(roomcast.sending.job.__file__).with_name("job.schema.json").read_text())
)
JOB = {"version": 1, "to": {"user": "u1"}, "event": "dashboard:update", "data": {"orderId": "123"}}
GOOD: list[dict[str, Any]] = [
    JOB,
    {**JOB, "to": {"room": "dashboard_admin"}},
    {**JOB, "to": {"room": "chat_room_r.1:2-3_x"}},
    {**JOB, "to": {"room": "dashboard_user_a@b.c"}},
    {**JOB, "to": {"all": True}},
    {**JOB, "data": None},
    {**JOB, "id": "01947416-3210-7c2e-a2f1-5b0c6d7e8f90"},
]
BAD: list[Any] = [
    [],
    "text",
    {},
    {**JOB, "version": 2},
    {**JOB, "version": True},
    {**JOB, "version": "1"},
    {key: value for key, value in JOB.items() if key != "to"},
    {key: value for key, value in JOB.items() if key != "event"},
    {key: value for key, value in JOB.items() if key != "data"},
    {**JOB, "to": {}},
    {**JOB, "to": "u1"},
    {**JOB, "to": {"user": "u1", "room": "dashboard_admin"}},
    {**JOB, "to": {"user": "u#1"}},
    {**JOB, "to": {"user": 7}},
    {**JOB, "to": {"room": "chat_room_a/b"}},
    {**JOB, "to": {"room": "kitchen"}},
    {**JOB, "to": {"all": False}},
    {**JOB, "to": {"all": True, "user": "u1"}},
    {**JOB, "event": ""},
    {**JOB, "event": 7},
    {**JOB, "event": "x" * 129},
    {**JOB, "id": ""},
    {**JOB, "id": None},
    {**JOB, "mistyped": 1},
]


@pytest.mark.parametrize("job", GOOD)
def test_a_good_job_is_taken_by_the_schema_and_by_the_reader(job: dict[str, Any]) -> None:
    SCHEMA.validate(job)
    parsed = parse(json.dumps(job), APP.rooms)
    assert isinstance(parsed, SendJob)
    assert json.loads(parsed.dump()) == job


@pytest.mark.parametrize("job", BAD)
def test_a_bad_job_is_refused_by_the_schema_and_by_the_reader(job: Any) -> None:
    assert not SCHEMA.is_valid(job)
    with pytest.raises(JobError):
        parse(json.dumps(job), APP.rooms)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*JOB, "id", "x"]), _JSON | st.sampled_from([*JOB.values()])))
def test_schema_and_reader_agree_on_any_object(job: dict[str, Any]) -> None:
    try:
        parse(json.dumps(job), APP.rooms)
        taken = True
    except JobError:
        taken = False
    # JSON Schema has 1.0 for an integer, so has Python; everything else must be told apart the same way.
    assert taken == SCHEMA.is_valid(job)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"version": NaN}', "\ud800"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(JobError):
        parse(text, APP.rooms)


@given(st.text())
def test_no_text_makes_the_reader_raise_anything_else(text: str) -> None:
    with pytest.raises(JobError):
        parse(text, APP.rooms)


def test_a_post_job_is_read_as_it_was_written() -> None:
    receivers = (Receiver("c1=", "2026-01-01T00:00:00.000Z", True), Receiver("c2=", "x", False))
    for room in (None, "chat_room_r1"):
        job = PostJob("id-1", room, '{"event":"e"}', receivers, 2)
        assert parse(job.dump(), APP.rooms) == job


@pytest.mark.parametrize(
    "change",
    [
        {"receivers": [["c1="]]},
        {"receivers": 7},
        {"receivers": [["c=", "x", True]] * 501},
        {"round": "x"},
        {"envelope": None},
        {"room": 7},
    ],
)
def test_a_broken_post_job_is_refused(change: dict[str, Any]) -> None:
    job = json.loads(PostJob("id-1", None, "{}", (Receiver("c1=", "x"),)).dump())
    with pytest.raises(JobError):
        parse(json.dumps({**job, **change}), APP.rooms)


def test_a_job_of_a_last_value_is_read_as_it_was_written() -> None:
    for job in (NewestJob("dashboard_admin", 3), NewestJob("dashboard_admin", None)):
        assert parse(job.dump(), APP.rooms) == job


@pytest.mark.parametrize("change", [{"newest": 7}, {"turn": "x"}])
def test_a_broken_job_of_a_last_value_is_refused(change: dict[str, Any]) -> None:
    job = json.loads(NewestJob("dashboard_admin", 0).dump())
    with pytest.raises(JobError):
        parse(json.dumps({**job, **change}), APP.rooms)


def test_a_job_of_any_characters_is_ascii() -> None:
    # SQS refuses some characters that JSON may hold.
    assert SendJob(ToRoom(chat("r1")), "grüße", "\uffff😀").dump().isascii()
