"""The tables of `docs/costs.md` are what the commands above them print."""

import re
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Roomcast

PAGE = (Path(__file__).parents[3] / "docs" / "costs.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```sh\nroomcast (cost[^\n]*)\n```\n\n((?:\|[^\n]*\n|\n)+)", PAGE)


def test_there_are_tables() -> None:
    assert len(SHOWN) == PAGE.count("```sh\nroomcast cost") == 6


def test_the_window_of_a_last_value_saves_what_the_page_says(roomcast: Roomcast) -> None:
    [command] = [command for command, _ in SHOWN if "--coalesced" in command]
    without = roomcast(*command.partition(" --coalesced")[0].split()).out
    [month] = re.findall(r"About (\S+) a month", without)
    assert f"Without the window it is {month}:" in PAGE


@pytest.mark.parametrize(("command", "table"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_table_is_what_its_command_prints(roomcast: Roomcast, command: str, table: str) -> None:
    printed = [line.rstrip() for line in roomcast(*command.split()).out.splitlines() if line.startswith("|")]
    assert [line for line in table.splitlines() if line] == printed


@pytest.mark.parametrize(
    "options",
    ["", "--plot", "--compare", "--presence", "--months 3", "--coalesced 5"],
    ids=lambda options: options or "plain",
)
def test_a_pipe_gets_no_blanks_at_the_ends_of_lines(roomcast: Roomcast, options: str) -> None:
    lines = roomcast("cost", "--users", "1000", *options.split()).out.split("\n")
    assert [line for line in lines if line != line.rstrip()] == []
