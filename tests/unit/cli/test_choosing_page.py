"""The prices on `docs/choosing.md` are what its unit prices and the same usage come to."""

import re
from pathlib import Path

import pytest

from roomcast_dev.cli.pricing import DAYS_A_MONTH, Usage, bill, count, total
from roomcast_dev.prices import prices

PAGE = (Path(__file__).parents[3] / "docs" / "choosing.md").read_text(encoding="utf-8")
SHOWN = {
    row[0]: (float(row[1].replace(",", "")), float(row[2].replace(",", "")))
    for row in re.findall(r"^\| ([^|]+?) \| ([\d.,]+) \| ([\d.,]+) \|", PAGE, re.MULTILINE)
}
HOURS, AN_HOUR, KB = 8, 10, 2  # a day; messages in, and as many out; of a message on the wire


def usage(users: int) -> tuple[float, float, float, float]:
    """Millions of connection minutes, of messages (in, out published, out delivered), of connects; GB out."""
    hours = users * HOURS * DAYS_A_MONTH
    one_way = hours * AN_HOUR / 1e6
    return hours * 60 / 1e6, 3 * one_way, users * DAYS_A_MONTH / 1e6, one_way * 1e6 * KB / 1024**2


def appsync(users: int) -> float:
    minutes, messages, connects, gb = usage(users)
    return minutes * 0.08 + (messages + 3 * connects) * 1.00 + 0.09 * gb


def ably(users: int) -> float:
    minutes, messages, _, __ = usage(users)
    return (29 if users < 10_000 else 399) + 2.5 * messages + 2 * minutes


@pytest.mark.parametrize("users", [1_000, 10_000])
def test_our_price_is_what_the_command_computes(users: int) -> None:
    dollars = total(bill(count(Usage(users=users)), prices().of("us-east-1")))
    assert SHOWN["Roomcast"][users == 10_000] == round(dollars, 2)


@pytest.mark.parametrize("users", [1_000, 10_000])
def test_the_others_prices_follow_from_their_unit_prices(users: int) -> None:
    column = users == 10_000
    assert SHOWN["AppSync Events"][column] == pytest.approx(appsync(users), abs=0.02 * (users / 1000))
    assert SHOWN["IoT Core"][column] == SHOWN["AppSync Events"][column]
    assert SHOWN["Ably, by the minute"][column] == pytest.approx(ably(users), abs=0.01)
    assert SHOWN["Ably, by the user"][column] == (29 if users < 10_000 else 399) + 0.05 * users
