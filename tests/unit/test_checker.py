"""The checker proves sound records, and finds each kind of fault with its own message."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomcast_dev.checker import check
from roomcast_dev.cli.main import run
from roomcast_dev.records import RecordError, read

ROOM = "chat_room_r1"
Json = dict[str, Any]


def at(seq: int, epoch: str = "a") -> Json:
    return {"room": ROOM, "epoch": epoch, "seq": seq}


def appended(seq: int, message_id: str | None = None) -> Json:
    return {"who": "backend", "what": "appended", **at(seq), "id": message_id or f"m{seq}"}


def joined(seq: int, *, recovered: bool = False, was: bool = False, who: str = "c1", **more: Any) -> Json:
    known = {"recovered": recovered, "wasRecovering": was, "user": f"user-of-{who}"}
    return {"who": who, "what": "joined", **at(seq), **known, **more}


def delivered(seq: int, message_id: str | None = None, who: str = "c1", epoch: str = "a") -> Json:
    return {"who": who, "what": "delivered", **at(seq, epoch), "id": message_id or f"m{seq}"}


def told(what: str, who: str = "c1", **more: Any) -> Json:
    return {"who": who, "what": what, "room": ROOM, **more}


def right(what: str, seq: int, who: str = "c1") -> Json:
    return {"who": "backend", "what": what, **at(seq), "user": f"user-of-{who}"}


def judge(*records: Json, complete: bool = False, gaps: bool = True) -> list[str]:
    lines = [json.dumps(record) for record in records]
    verdict = check(read(lines, "f"), complete=complete, gaps=gaps)
    return [violation.message for violation in verdict.violations]


SOUND = [
    *map(appended, range(1, 5)),
    joined(0),
    delivered(1),
    told("closed"),
    joined(3, recovered=True, was=True),
    delivered(2),
    delivered(3),
    delivered(4),
]


def test_sound_records_pass() -> None:
    assert judge(*SOUND, complete=True) == []


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [joined(0), delivered(1), delivered(3)],
            "c1 did not get chat_room_r1 a:2, and no gap was told",
        ),
        ([joined(0), delivered(1), delivered(1)], "c1 got chat_room_r1 a:1 twice"),
        (
            [joined(1), delivered(2), told("closed"), joined(2, recovered=True, was=True), delivered(2)],
            "c1 got chat_room_r1 a:2 twice",
        ),
        ([joined(3), delivered(2)], "c1 got chat_room_r1 a:2 after a:3"),
        (
            [joined(0), delivered(1), delivered(2, "x", epoch="b")],
            "c1 got chat_room_r1 b:2 after a:1, and no gap was told",
        ),
        (
            [appended(1), joined(0), delivered(1, "other")],
            "chat_room_r1 a:1 is 'm1' and also 'other'",
        ),
        (
            [joined(0), delivered(1, "x"), joined(0, who="c2"), delivered(1, "y", who="c2")],
            "chat_room_r1 a:1 is 'x' and also 'y'",
        ),
        (
            [joined(0), delivered(1, "x"), delivered(2, "x")],
            "chat_room_r1: the message 'x' is at a:1 and also at a:2",
        ),
        (
            [appended(1, "x"), appended(2, "x")],
            "chat_room_r1: the message 'x' is at a:1 and also at a:2",
        ),
        (
            [joined(0), delivered(1), joined(9, was=True), delivered(10)],
            "c1 was not given everything in chat_room_r1, and no gap was told",
        ),
        (
            [joined(0), delivered(1), {**joined(9, recovered=True, was=True), "epoch": "b"}],
            "c1 is told that chat_room_r1 was recovered, from a:1 into another epoch",
        ),
        (
            [joined(0), delivered(1), told("gap"), delivered(2)],
            "c1 was told a gap in chat_room_r1 where nothing is missing",
        ),
        (
            [joined(0), joined(9, was=True), told("gap"), told("gap")],
            "c1 was told the same gap in chat_room_r1 twice",
        ),
        (
            [right("revoked", 1), joined(0), delivered(1), delivered(2)],
            "c1 got chat_room_r1 a:2 after a revocation",
        ),
        (
            [right("granted", 3), joined(2, since={"epoch": "a", "seq": 2}), delivered(3)],
            "c1 got chat_room_r1 a:3 from before its grant",
        ),
        (
            [
                {
                    "who": "b",
                    "what": "history",
                    **at(3),
                    "messages": [{"seq": 1, "id": "x"}, {"seq": 3, "id": "y"}],
                }
            ],
            "chat_room_r1 a:2 is a number without a message",
        ),
        (
            [{"who": "b", "what": "history", **at(3), "messages": [{"seq": 2, "id": "x"}]}],
            "chat_room_r1 a:3 is a number without a message",
        ),
    ],
)
def test_each_kind_of_fault_is_found(records: list[Json], message: str) -> None:
    assert judge(*records) == [message]


def test_what_is_missing_at_the_end_counts_if_the_run_came_to_rest() -> None:
    records = [*map(appended, range(1, 3)), joined(0), delivered(1)]
    assert judge(*records) == []
    assert judge(*records, complete=True) == ["c1 did not get chat_room_r1 a:2, and no gap was told"]
    assert judge(*records, told("closed"), complete=True) == []
    assert judge(*records, told("left"), complete=True) == []


def test_a_gap_that_was_told_explains_what_is_missing() -> None:
    records = [joined(0), delivered(1), told("closed"), joined(9, was=True), told("gap"), delivered(10)]
    assert judge(*records) == []
    assert judge(*records, gaps=False) == ["c1 was told a gap in chat_room_r1"]


def test_after_a_gap_from_a_history_page_the_position_begins_with_what_comes() -> None:
    records = [joined(0), delivered(1), told("gap"), delivered(7), delivered(8)]
    assert judge(*records) == []
    assert judge(joined(0), delivered(1), told("gap", epoch="a", seq=6), delivered(8)) == [
        "c1 did not get chat_room_r1 a:7, and no gap was told"
    ]


def test_a_later_gap_is_another_one_and_the_same_one_is_not() -> None:
    first, second = told("gap", epoch="a", seq=2), told("gap", epoch="a", seq=4)
    sent = [appended(seq) for seq in range(1, 5)]
    assert judge(*sent, joined(0), first, second) == []
    assert judge(*sent, joined(0), first, first) == ["c1 was told the same gap in chat_room_r1 twice"]
    assert judge(*sent, joined(0), first, told("gap", epoch="b", seq=0)) == []


def test_of_last_values_some_may_be_missing() -> None:
    records = [joined(5, lastValue=True), delivered(5), delivered(9)]
    assert judge(*records) == []
    assert judge(*records, delivered(7)) == ["c1 got chat_room_r1 a:7 after a:9"]
    assert judge(*records, appended(11), joined(11, was=True, lastValue=True), complete=True) == []
    assert judge(*records, appended(11), complete=True) == [
        "c1 did not get chat_room_r1 a:11, and no gap was told"
    ]


def test_a_client_that_a_revocation_has_put_out_is_owed_nothing() -> None:
    records = [joined(0), appended(1), delivered(1), right("revoked", 1), appended(2)]
    assert judge(*records, complete=True) == []
    [missing] = judge(*records[:3], appended(2), right("revoked", 0, "c2"), complete=True)
    assert "did not get chat_room_r1 a:2" in missing


def test_a_right_that_was_given_again_is_a_right() -> None:
    rights = [right("granted", 0), right("revoked", 2), right("granted", 4)]
    assert judge(*rights, joined(0), delivered(1), delivered(2), told("left"), joined(4), delivered(5)) == []
    assert judge(*rights, joined(2), delivered(3)) == ["c1 got chat_room_r1 a:3 after a revocation"]


def test_a_handover_that_joins_without_a_position_excuses_nothing() -> None:
    assert judge(joined(0), delivered(1), joined(4), delivered(5)) == [
        "c1 did not get chat_room_r1 a:2, and no gap was told"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "f:2: not JSON"),
        ("[]", "f:2: not a JSON object"),
        ('{"who": "c", "what": "seen"}', "f:2: `what` must be one of appended, closed, delivered,"),
        ('{"what": "closed"}', "f:2: `closed` needs `who`, a string"),
        (json.dumps({**delivered(1), "seq": "1"}), "f:2: `delivered` needs `seq`, a number from 0"),
        (json.dumps({**delivered(1), "seq": True}), "f:2: `delivered` needs `seq`, a number from 0"),
        (json.dumps(joined(1, since={"seq": 1})), "f:2: `since` needs `epoch` and `seq`"),
        (
            json.dumps({"who": "b", "what": "history", **at(1), "messages": [1]}),
            "f:2: `messages` needs `seq` and `id`",
        ),
    ],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(read([json.dumps(joined(1)), line], "f"))
    assert str(caught.value).startswith(message)


@given(seed=st.integers(0, 10_000), count=st.integers(3, 12), clients=st.integers(1, 3))
def test_any_sound_run_passes_and_any_loss_repeat_or_swap_in_it_is_found(
    seed: int, count: int, clients: int
) -> None:
    dice = random.Random(seed)
    logs = [_log(dice, f"c{number}", count) for number in range(clients)]
    sends = [appended(seq) for seq in range(1, count + 1)]
    assert judge(*sends, *itertools.chain(*logs), complete=True) == []
    log = dice.choice(logs)
    places = [number for number, record in enumerate(log) if record["what"] == "delivered"]
    chosen, fault = dice.choice(places), dice.choice(["lost", "repeated", "swapped", "changed"])
    if fault == "lost":
        del log[chosen]
    elif fault == "repeated":
        log.append(log[chosen])
    elif fault == "changed":
        log[chosen] = {**log[chosen], "id": "another"}
    else:
        other = dice.choice([place for place in places if place != chosen])
        log[chosen], log[other] = log[other], log[chosen]
    assert judge(*sends, *itertools.chain(*logs), complete=True)


def _log(dice: random.Random, who: str, count: int) -> list[Json]:
    """A client that is cut now and then, and is told everything."""
    log = [joined(0, who=who)]
    for seq in range(1, count + 1):
        log.append(delivered(seq, who=who))
        if dice.random() < 0.3:
            missed = dice.randint(0, count - seq)
            log += [told("closed", who), joined(seq + missed, recovered=True, was=True, who=who)]
    return log


def write(folder: Path, *records: Json) -> str:
    file = folder / "records.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def test_the_command_says_what_it_has_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--complete", write(tmp_path, *SOUND)]) == 0
    assert capsys.readouterr().out == "sound: sends 4, deliveries 4, gaps 0, clients 1, rooms 1\n"


def test_the_command_shows_the_records_that_contradict_each_other_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, *SOUND[:-2], SOUND[-1])
    assert run(["check", file]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "",
        "nothing is lost in silence: c1 did not get chat_room_r1 a:3, and no gap was told",
    ]
    assert [line.split(": ")[0].removeprefix(f"  {file}:") for line in lines[3:]] == ["3", "9", "10"]


def test_the_command_says_in_one_line_what_is_wrong_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("{}\n")
    assert run(["check", str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"roomcast: {file}:1: `what` must be one of")


def test_a_file_that_is_not_there_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "nowhere.jsonl"]) == 1
    assert capsys.readouterr().err == "roomcast: nowhere.jsonl: No such file or directory\n"
