"""The arithmetic of `roomcast cost`, against cases worked by hand from the price list."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from roomcast_dev.cli.pricing import Usage, bill, choices, count, presence, total
from roomcast_dev.prices import Price, prices

US = prices().of("us-east-1")
QUIET = Usage(users=0, messages_in=0, messages_out=0, ping=0)


def dollars(usage: Usage) -> dict[str, float]:
    return {key: line.dollars for key, line in zip(count(usage), bill(count(usage), US), strict=True)}


def quantities(usage: Usage) -> dict[str, float]:
    return {key: sum(parts.values()) for key, parts in count(usage).items()}


def test_a_thousand_users_at_work_by_hand() -> None:
    """1,000 users, 8 hours a day, 10 actions and 10 messages an hour, a ping after 9 silent minutes.

    365 / 12 days x 8 h x 1,000        =    243,333.33 online hours
    pings: 20 / (e^(20 x 0.15) - 1)    =          1.0479 an hour
    connection minutes                 = 14,600,000        x $0.25 / million           = $ 3.65
    connects: 4 a day of 2 hours       =    121,666.67
    messages: actions 2,433,333.33 + answers 2,433,333.33 + sends 2,433,333.33
      + joins and answers 243,333.33 + pings and pongs 2 x 254,993.3
                                       =  8,053,319.9      x $1.00 / million           = $ 8.0533
    calls: actions 2,433,333.33 + pings 254,993.3 + joins, connects, disconnects 3 x 121,666.67
                                       =  3,053,326.6      x $0.20 / million           = $ 0.6107
    time: (2,809,993.3 x 12 ms + 121,666.67 x 37 ms) x 0.5 GB
                                       =     19,110.79 GB-s x $0.0000133334            = $ 0.2548
    writes: 121,666.67 x 18 + 2,809,993.3 + 2,433,333.33 x 3, of sends that are kept
                                       = 12,299,993.3      x $0.625 / million          = $ 7.6875
    reads: 2,433,333.33 + 121,666.67
                                       =  2,555,000        x $0.125 / million          = $ 0.3194
    SQS: 5 polls x 3 a minute          =    657,000        x $0.40 / million           = $ 0.2628
    secret                                                                              = $ 0.40
    secret reads: 1,216.67 + 121,666.67 / (121,666.67 / 43,800 + 1)
                                       =     33,422.55     x $0.05 / 10,000             = $ 0.1671
    storage: 2,433,333.33 x 1.3 KB x 2 days / 30.42
                                       =      0.1984 GB    x $0.25                      = $ 0.0496
    logs: 3,053,326.6 x 600 bytes      =      1.7062 GB    x $0.50                      = $ 0.8531
    out: 4,866,666.67 x 1 KB           =      4.6412 GB    x $0.09                      = $ 0.4177
    """
    got = dollars(Usage(users=1000, hours=8, messages_in=10, messages_out=10, ping=540, memory_mb=512))
    by_hand = {
        "connection_minutes": 3.65,
        "messages": 8.0533,
        "invocations": 0.6107,
        "gb_seconds": 0.2548,
        "writes": 7.6875,
        "storage_gb": 0.0496,
        "reads": 0.3194,
        "queue_requests": 0.2628,
        "secrets": 0.40,
        "secret_calls": 0.1671,
        "log_gb": 0.8531,
        "out_gb": 0.4177,
    }
    assert got == pytest.approx(by_hand, abs=0.0001)
    assert sum(got.values()) == pytest.approx(22.7259, rel=0.0001)


def test_landinghubs_example_by_hand() -> None:
    """Its "$10 to 20" counts only connections and messages, day and night: $10.95 + $7.30."""
    got = dollars(Usage(users=1000, hours=24, messages_in=0, messages_out=10, ping=0))
    assert got["connection_minutes"] == pytest.approx(1000 * 730 * 60 * 0.25e-6) == pytest.approx(10.95)
    joins = 1000 * 730 / 24 * 12 * 2
    assert got["messages"] == pytest.approx((1000 * 730 * 10 + joins) * 1e-6) == pytest.approx(8.03)


def test_a_ping_every_30_seconds_day_and_night_is_175_million_messages() -> None:
    usage = replace(QUIET, users=1000, hours=24)
    without, with_pings = quantities(usage), quantities(replace(usage, ping=30))
    assert with_pings["messages"] - without["messages"] == pytest.approx(175_200_000)
    assert with_pings["invocations"] - without["invocations"] == pytest.approx(87_600_000)
    assert with_pings["writes"] - without["writes"] == pytest.approx(87_600_000)


def test_after_9_silent_minutes_it_is_less_than_10_million() -> None:
    usage = replace(QUIET, users=1000, hours=24)
    pings = quantities(replace(usage, ping=540))["messages"] - quantities(usage)["messages"]
    assert pings == pytest.approx(2 * 1000 * 730 * 3600 / 540) == pytest.approx(9_733_333, abs=1)


def test_who_gets_messages_needs_fewer_pings() -> None:
    """10 messages an hour and a ping after 9 minutes: 10 / (e^1.5 - 1) = 2.872 pings an hour, not 6.667."""
    usage = replace(QUIET, users=1, hours=24, ping=540)
    assert count(usage)["invocations"]["pings"] == pytest.approx(730 * 6.6667, rel=0.0001)
    assert count(replace(usage, messages_out=10))["invocations"]["pings"] == pytest.approx(
        730 * 2.8721, rel=1e-4
    )
    assert "pings" not in count(replace(usage, messages_out=100_000))["invocations"]


def test_the_second_billion_of_messages_is_cheaper() -> None:
    assert US["messages"].of(1_000_000_000) == pytest.approx(1000)
    assert US["messages"].of(1_500_000_000) == pytest.approx(1000 + 400)


def test_tiers_add_up_over_all_of_them() -> None:
    price = Price("x", "things", 10, ((100, 1.0), (300, 0.5), (None, 0.1)))
    assert [price.of(n) for n in (0, 50, 100, 200, 300, 400)] == pytest.approx([0, 5, 10, 15, 20, 21])


def test_messages_are_billed_in_units_of_32_kb() -> None:
    usage = replace(QUIET, users=1000, messages_out=10)
    sent = count(replace(usage, message_kb=32))["messages"]["sends"]
    assert count(replace(usage, message_kb=33))["messages"]["sends"] == 2 * sent


def test_a_room_is_read_once_for_all_its_members() -> None:
    """100 messages received in rooms of 20 are 5 sends, each a Query of 20 x 0.2 KB = 1 unit."""
    usage = replace(QUIET, users=1, hours=24, messages_out=100, room_size=20)
    assert count(usage)["reads"]["sends"] == pytest.approx(730 * 5)
    assert count(usage)["messages"]["sends"] == pytest.approx(730 * 100)


def test_a_published_message_is_an_action_and_a_send_with_rights_and_a_rate() -> None:
    """One user, one hour: an action with its answer, a send to 20, and 4 + 1 + 1 write units of its own."""
    usage = replace(QUIET, users=1, hours=24, published=1, room_size=20)
    got, quiet = count(usage), count(replace(QUIET, users=1, hours=24, room_size=20))
    assert got["messages"]["actions"] == got["messages"]["their answers"] == pytest.approx(730)
    assert got["messages"]["sends"] == pytest.approx(730 * 20)
    assert got["reads"]["rights"] == pytest.approx(730 * 2)
    assert got["reads"]["sends"] == pytest.approx(730)
    more = sum(got["writes"].values()) - sum(quiet["writes"].values())
    # The action, the user's rate, the item of 1.3 KB and the mark in a transaction, the head.
    assert more == pytest.approx(730 * (1 + 1 + 2 * 2 + 2 + 1))


def test_sends_of_which_the_newest_is_posted_are_stored_each_and_posted_once() -> None:
    """Five sends to a room of 20, one post to each member by a job: two writes and two reads more."""
    usage = replace(QUIET, users=20, hours=24, messages_out=5, room_size=20, coalesced=5)
    got, all_posted = count(usage), count(replace(usage, coalesced=1))
    hours = 730
    assert got["messages"]["sends"] == pytest.approx(hours * 20)
    assert got["writes"]["histories"] == all_posted["writes"]["histories"] == pytest.approx(hours * 5 * 3)
    assert got["writes"]["windows"] == got["reads"]["windows"] == pytest.approx(hours * 2)
    assert got["reads"]["sends"] == pytest.approx(hours)
    assert got["queue_requests"]["jobs"] == pytest.approx(hours * 3)
    assert got["storage_gb"] == all_posted["storage_gb"]


def test_presence_by_hand() -> None:
    """20 users of one room, 8 h a day: 1 visit, 4 + 8 connects; a change is heard by 20."""
    usage = replace(QUIET, users=20, hours=8)
    visits, connects = 20 * 730 / 24, 20 * 730 / 24 * 12
    naive = presence(usage, 20, "naive")
    assert naive["messages"]["joins and leaves"] == pytest.approx(2 * connects * 20)
    listed = presence(usage, 20, "list")
    assert listed["messages"]["events"] == pytest.approx(2 * visits * 20)
    assert sum(listed["writes"].values()) == pytest.approx(2 * connects + 2 * visits * 4)
    assert listed["queue_requests"]["looks"] == pytest.approx(3 * (visits + connects))
    crowd = presence(replace(usage, users=1000), 1000, "list")
    windows = 730 * 36  # one count in 100 s at most
    most = min(windows, 2 * 1000 * 730 / 24)
    assert 0 < crowd["messages"]["events"] < most * 1000
    assert crowd == presence(replace(usage, users=1000), 1000, "count")


def test_server_events_by_hand() -> None:
    """1,000 people, 4 connects a day: 121,666.67 x 3 events, each with a number, 15 ms and a line of log."""
    usage = Usage(users=1000, hours=8)
    with_events, without = dollars(replace(usage, events=True)), dollars(usage)
    assert with_events["events"] == pytest.approx(365_000 * 1e-6)
    more = {key: with_events[key] - without[key] for key in without}
    assert more.pop("writes") == pytest.approx(365_000 * 0.625e-6)
    assert more.pop("gb_seconds") == pytest.approx(365_000 * 0.015 * 0.5 * 0.0000133334)
    assert more.pop("log_gb") == pytest.approx(365_000 * 200 / 1024**3 * 0.5)
    assert set(more.values()) == {0}


def test_a_scan_reads_everybody_for_each_room_send() -> None:
    """24,000 users for 8 hours are 8,000 at once: 4,000 KB, 500 units of 8 KB."""
    usage = replace(QUIET, users=24_000, hours=8, messages_out=20, room_size=20, scan_rooms=True)
    sends = 24_000 * 8 * 730 / 24
    assert count(usage)["reads"]["sends"] == pytest.approx(sends * 500)


def test_a_broadcast_goes_over_the_queue() -> None:
    """10,000 online: 1 + 2 + 100 jobs, 3 requests each; Scans of 5,000 KB are 1,250 units, of 501 KB 126."""
    usage = replace(QUIET, users=30_000, hours=8, broadcasts=24)
    days = 730 / 24
    got = count(usage)
    assert got["queue_requests"]["jobs"] == pytest.approx(24 * days * 103 * 3)
    assert got["invocations"]["fan-out"] == pytest.approx(24 * days * 103)
    assert got["messages"]["broadcasts"] == pytest.approx(24 * days * 10_000)
    assert got["reads"]["broadcasts"] == pytest.approx(24 * days * (1250 + 126))


def test_a_small_broadcast_needs_no_queue() -> None:
    assert "jobs" not in count(replace(QUIET, users=200, hours=24, broadcasts=24))["queue_requests"]
    days = 730 / 24
    got = count(replace(QUIET, users=201, hours=24, broadcasts=24))  # three post jobs, and nothing read twice
    assert got["queue_requests"]["jobs"] == pytest.approx(24 * days * 3 * 3)
    assert got["reads"]["broadcasts"] == pytest.approx(24 * days * 26)


def test_nobody_costs_what_stands_there_anyway() -> None:
    assert total(bill(count(QUIET), US)) == pytest.approx(0.40 + 0.2628)


def test_every_choice_costs_more() -> None:
    usage = Usage(room_size=10)
    first, *others = (total(bill(count(choice), US)) for choice in choices(usage).values())
    assert all(other > first for other in others)


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": -1},
        {"hours": 25},
        {"users": math.nan},
        {"ping": 0.5},
        {"room_size": 0},
        {"messages_in": math.inf},
    ],
    ids=str,
)
def test_a_usage_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Usage(**wrong)  # type: ignore[arg-type]


def test_a_region_without_prices_is_refused() -> None:
    with pytest.raises(ValueError, match="us-east-1"):
        prices().of("mars-north-1")


def test_the_price_table_says_when_and_where_from() -> None:
    table = json.loads((Path(__file__).parents[3] / "roomcast_dev" / "prices.json").read_text())
    assert table["date"] == prices().date
    assert all(source.startswith("https://aws.amazon.com/") for source in table["sources"])
    assert all(set(region) == set(count(Usage(events=True))) for region in table["regions"].values())
