"""The stand-in answers every row as the table says; `make conform` asks API Gateway the same."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from roomcast_dev.local import handover
from roomcast_dev.testing import WebSocketStack
from tests.conformance.rows import MEASURED, ROWS, Row, compare
from tests.conformance.target import Target
from tests.infra.conftest import ROOT


def named(rows: tuple[Row, ...]) -> list[object]:
    return [pytest.param(row, id=row.name) for row in rows]


KNOWN = tuple(row for row in ROWS if row.answer is not MEASURED)


@pytest.mark.parametrize("row", named(KNOWN))
def test_a_stage_of_ours_answers(stage: Target, row: Row) -> None:
    assert json.loads(json.dumps(row.ask(stage))) == row.answer


@pytest.mark.parametrize("row", named(tuple(row for row in KNOWN if not row.of_a_stage)))
def test_a_stage_of_somebody_elses_answers_the_same(foreign: Target, row: Row) -> None:
    assert json.loads(json.dumps(row.ask(foreign))) == row.answer


MEASURED_HERE = {
    "HTTP/2 is offered on @connections: what is chosen": "no TLS, so HTTP/1.1",
    "40 posts one after the other": {"refused": 0, "not received": 0, "overtaken": 0, "by at most": 0},
}


@pytest.mark.parametrize("row", named(tuple(row for row in ROWS if row.answer is MEASURED)))
def test_a_measurement_can_be_made(stage: Target, row: Row) -> None:
    answer = json.loads(json.dumps(row.ask(stage)))
    assert answer == MEASURED_HERE.get(row.name, answer)
    assert answer is not None


def test_each_difference_is_a_line(stage: Target) -> None:
    let_in = ROWS[0]
    asked = (
        let_in,
        dataclasses.replace(let_in, name="seeded", answer=200),
        dataclasses.replace(let_in, ask=fails),
    )
    said: list[str] = []
    assert compare(asked, stage, said.append) == 2
    assert said == [
        "same      a client is let in: 101",
        "DIFFERS   seeded: 101, and the stand-in says 200",
        'DIFFERS   a client is let in: "ValueError: no answer", and the stand-in says 101',
    ]


def fails(target: Target) -> object:
    raise ValueError("no answer")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_command_asks_all_of_them(websocket_stack: WebSocketStack, tmp_path: Path) -> None:
    path = tmp_path / ".env.local"
    handover.write(path, websocket_stack.environment)
    command = [sys.executable, "-m", "tests.conformance", "--env-file", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    *lines, last = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "measured" if row.answer is MEASURED else "same" for row in ROWS
    ]
    assert last == f"{len(ROWS)} questions, 0 answers differ from the stand-in's"
