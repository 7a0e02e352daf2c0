"""`roomcast cost`: what it shows of the arithmetic."""

import json
import re

import pytest

from tests.unit.cli.conftest import Roomcast, terminal


def rows(markdown: str) -> dict[str, list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    }


def test_the_sums_and_the_price_date_are_shown(roomcast: Roomcast) -> None:
    answer = roomcast("cost", "--users", "1000", "--hours", "8", "--in", "10", "--out", "10")
    assert (answer.code, answer.err) == (0, "")
    assert "us-east-1, prices of 2026-" in answer.out
    table = rows(answer.out)
    assert table["Connections"] == ["online 14.60M", "14.60M minutes", "$0.25 a million", "3.65"]
    assert table["Messages"][1:] == ["8.05M units of 32 KB", "$1 a million", "8.05"]
    assert table["A month"][-1] == "22.73"
    assert table["A year"][-1] == "272.71"
    shown = [
        float(row[-1].replace(",", "")) for name, row in table.items() if re.fullmatch(r"[\d.,]+", row[-1])
    ]
    *components, month, year = shown
    assert sum(components) == pytest.approx(month, abs=0.06)
    assert month * 12 == pytest.approx(year, abs=0.06)


def test_it_begins_with_what_most_people_want_to_know(roomcast: Roomcast) -> None:
    assert roomcast("cost").out.startswith("About $22.73 a month, 2.3 cents a user\n")


def test_a_terminal_of_80_columns_breaks_no_cell_of_the_table() -> None:
    script = "from roomcast_dev.cli.main import run; run(['cost']); run(['cost', '--plot'])"
    shown = terminal(script, columns=80)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    table = [line for line in lines if re.search(r"[\d.,]$", line.rstrip())]
    assert "  22.73" in next(line for line in table if line.lstrip().startswith("A month"))
    named = ("Data to the internet ", "Lambda time (arm64) ")
    assert [name for name in named if not any(line.lstrip().startswith(name) for line in table)] == []
    assert "their answers 2.43M" in shown  # the sums come below
    assert "…" not in shown


def test_json_has_the_same_sums(roomcast: Roomcast) -> None:
    found = json.loads(roomcast("cost", "--json").out)
    assert round(found["dollarsAMonth"], 2) == 22.73
    assert sum(part["dollars"] for part in found["components"]) == pytest.approx(found["dollarsAMonth"])


def test_months_have_a_line_of_their_own(roomcast: Roomcast) -> None:
    assert rows(roomcast("cost", "--months", "3").out)["3 months"][-1] == "68.18"


def test_over_a_billion_messages_both_prices_are_shown(roomcast: Roomcast) -> None:
    assert rows(roomcast("cost", "--users", "1e6").out)["Messages"][2] == "$1, then $0.8 a million"


def test_the_plot_reaches_from_a_hundred_to_a_million_users(roomcast: Roomcast) -> None:
    table = rows(roomcast("cost", "--plot").out)
    assert list(table)[1] == "100"
    assert list(table)[-1] == "1,000,000"
    bars = [len(row[1]) for name, row in table.items() if name != "Users"]
    assert bars == sorted(bars)
    assert bars[0] < bars[-1] == 30
    assert table["1,000"][0] == "22.73"


def test_the_plot_of_nearly_nothing_has_no_bars(roomcast: Roomcast) -> None:
    table = rows(roomcast("cost", "--plot", "--hours", "0").out)
    assert table["100"][:2] == ["0.66", ""]


def test_the_comparison_shows_habits_and_hours_for_three_sizes(roomcast: Roomcast) -> None:
    table = rows(roomcast("cost", "--compare", "--room-size", "20").out)
    assert table["as it is"] == table["8 h online a day"]
    assert len(table["a ping after 30 silent seconds"]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--region", "mars-north-1"), "roomcast_dev/prices.json has us-east-1"),
        (("--hours", "25"), "hours must be at most 24"),
        (("--users", "-1"), "users must be"),
        (("--in", "nan"), "--in must be"),
        (("--ping", "0.1"), "ping must be"),
    ],
)
def test_what_cannot_be_is_one_line(roomcast: Roomcast, arguments: tuple[str, ...], said: str) -> None:
    answer = roomcast("cost", *arguments)
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert said in answer.err


def test_counts_of_a_stage_are_not_forecast(roomcast: Roomcast) -> None:
    answer = roomcast("cost", "--stage", "prod", "--plot")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
