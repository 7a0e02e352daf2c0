"""What a stage costs: usage becomes billed quantities, quantities become dollars. Pure arithmetic.

The prices are in `roomcast_dev/prices.json`. What one connect, action or send uses is taken from this
project's code (`roomcast/store`, `roomcast/sending`, `roomcast_cdk/`); `tests/integration/cli/test_cost.py`
counts it there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from roomcast.sending.job import SendLimits
from roomcast.store.presence import COUNT_SECONDS, MAX_LISTED, POSTS_A_SECOND
from roomcast.store.receivers import SLICE_RECEIVERS
from roomcast.tokens.key_set import MAX_AGE_SECONDS
from roomcast_dev.prices import Price

HOURS_A_MONTH = 730  # 365 days / 12, as AWS counts
DAYS_A_MONTH = HOURS_A_MONTH / 24
_MAX_CONNECTION_HOURS = 2  # API Gateway's limit; then the client connects again
_LIMITS = SendLimits()
_MESSAGE_UNIT_KB = 32
_FANOUT_GB, _POSTS_PER_SECOND = 1769 / 1024, 600  # of a worker: roomcast_cdk/fan_out.py, cdk.json
_REQUESTS_PER_JOB = 3  # send, receive, delete
_POLLS_A_MONTH = 5 * 3 * 60 * HOURS_A_MONTH  # Lambda keeps five long polls of 20 s on an idle queue
_CONNECT_MS, _ACTION_MS, _DISCONNECT_MS = 25, 12, 12  # billed time of warm calls
_CALLS_PER_COLD_START = 100  # each reads the secret once

# DynamoDB units. A connect is a transaction of two puts and a condition (2 units each) that also writes the
# index, and a Query of the user's connections; a join is a transaction of two writes and the condition that
# the user was not revoked, and of a second condition where it needs a grant; a disconnect makes the item a
# tombstone, which deletes its entry in the index, then deletes the members and the item. A send to a user or
# a room is appended to a history: an item, by its size, and the head.
_CONNECT_WRITES, _CONNECT_READS = 7, 1
_ACTION_WRITES = 1
_JOIN_WRITES = 6
_DISCONNECT_WRITES = 5
_GRANT_WRITES = 2  # more of a join that needs a grant
_USER_SEND_READS = 1  # the members of the inbox
_ENVELOPE_KB = 0.3  # of an append, around the data: names, numbers, time
_DAYS_STORED = 2  # of a message: a day of retention, and about one until DynamoDB has deleted it
_HEAD_WRITES = 1
_PUBLISH_READS = 2  # of a message of a client: whether its user was revoked, and the grant
_RATE_WRITES = 1  # likewise: the user's rate
_WINDOW_WRITES, _WINDOW_READS = 2, 2  # the head says that there is a job, and that it ran; what is newest
_MARK_WRITES = 2  # likewise: its id is kept, and a transaction doubles the item
# Presence: a change of a listed room is a transaction of the user's row and the head, of a crowd of the row
# and a note that it is to be counted; a look reads the state, the inbox and the user's connections.
_BREAKS_AN_HOUR = 1
_LISTED_WRITES, _COUNTED_WRITES, _LOOK_READS, _LOOK_MS, _PRESENT_KB = 4, 3, 2, 30, 0.2
_EVENT_WRITES, _EVENT_MS = 1, 15  # of a server event: its number, and waiting for DynamoDB and EventBridge
_EVENT_LOG_BYTES = 200
_ITEM_KB, _MEMBER_KB = 0.5, 0.2
_STRONG_READ_KB, _EVENTUAL_READ_KB = 4, 8  # one read unit
_KB_PER_GB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What people and backends do with a stage, and three habits that decide about the money.

    Attributes:
        users: people who come each day.
        hours: hours that each is online a day.
        messages_in: actions that each sends in an online hour; every one is answered.
        messages_out: messages that each gets in an online hour from sends to users and rooms.
        room_size: online members of the room that a send goes to, which is joined with a grant; 1 is a
            send to a user, who joins a dashboard.
        published: messages that each publishes in the room in an online hour.
        coalesced: sends to a last value for each one that is posted: what comes within the stage's window.
        broadcasts: sends a day to everybody who is online.
        ping: a client pings after this many silent seconds; 0: never. Messages come at random moments
            (Poisson), so the more there are, the fewer pings.
        message_kb: size of a message in KB.
        memory_mb: of the functions that clients call.
        log_bytes: of logs for each call: a line of the function's and a line of the access log.
        events: whether the stage puts all kinds of server events on a bus.
        acknowledged: whether a client acknowledges every message that it gets.
        scan_rooms: whether a room send looks through all connections (not here: to compare).
    """

    users: float = 1000
    hours: float = 8
    messages_in: float = 10
    messages_out: float = 10
    room_size: float = 1
    published: float = 0
    coalesced: float = 1
    broadcasts: float = 0
    ping: float = 540
    message_kb: float = 1
    memory_mb: float = 512
    log_bytes: float = 600
    events: bool = False
    acknowledged: bool = False
    scan_rooms: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be a number of at least 0, not {value}")
        if self.hours > 24:
            raise ValueError(f"hours must be at most 24 a day, not {self.hours}")
        for name in ("room_size", "coalesced"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if 0 < self.ping < 1:
            raise ValueError(f"ping must be 0 or at least 1 second, not {self.ping}")


Counts = Mapping[str, Mapping[str, float]]
"""Billed quantities of a month: by the keys of `prices.json`, what each is made of and how much of it."""


def count(usage: Usage) -> Counts:
    """The billed quantities of a month."""
    online_hours = usage.users * usage.hours * DAYS_A_MONTH
    online = usage.users * usage.hours / 24  # on average
    connects = usage.users * DAYS_A_MONTH * math.ceil(usage.hours / _MAX_CONNECTION_HOURS)
    units = max(1, math.ceil(usage.message_kb / _MESSAGE_UNIT_KB))

    published = online_hours * usage.published
    actions = online_hours * usage.messages_in + published
    pings = online_hours * _pings_an_hour(usage)
    sent = online_hours * usage.messages_out
    received = sent / usage.coalesced + published * usage.room_size
    sends = received / usage.room_size  # that are posted
    stored = sent / usage.room_size + published
    windows = sent / usage.room_size / usage.coalesced * (usage.coalesced > 1)
    broadcasts = usage.broadcasts * DAYS_A_MONTH
    broadcast_posts = broadcasts * online
    acknowledgements = received + broadcast_posts if usage.acknowledged else 0
    joins = connects
    events = {"connects and disconnects": 2 * connects, "joins": joins, "published": published}
    events_in_all = sum(events.values()) * usage.events
    calls = actions + pings + joins + acknowledgements

    slices = math.ceil(online / SLICE_RECEIVERS)
    jobs = windows + sends * _jobs(usage.room_size) + broadcasts * (_jobs(online) + slices * (slices > 1))
    by_job = usage.coalesced > 1 or usage.room_size > _LIMITS.direct
    job_posts = received * by_job + broadcast_posts * (online > _LIMITS.direct)
    gb = usage.memory_mb / 1024
    item = math.ceil(usage.message_kb + _ENVELOPE_KB)

    if usage.scan_rooms and usage.room_size > 1:
        send_reads = sends * _read_units(usage.users * usage.hours / 24, _ITEM_KB, _EVENTUAL_READ_KB)
    elif usage.room_size > 1:
        send_reads = sends * _send_reads(usage.room_size, _MEMBER_KB, _STRONG_READ_KB)
    else:
        send_reads = sends * _USER_SEND_READS

    return {
        "connection_minutes": {"online": online_hours * 60},
        "messages": _some(
            {
                "actions": actions * units,
                "their answers": actions * units,
                "sends": received * units,
                "broadcasts": broadcast_posts * units,
                "joins and answers": 2 * joins,
                "pings and pongs": 2 * pings,
                "acknowledgements": acknowledgements,
            }
        ),
        "invocations": _some(
            {
                "actions": actions,
                "pings": pings,
                "joins": joins,
                "connects": connects,
                "disconnects": connects,
                "fan-out": jobs,
                "acknowledgements": acknowledgements,
            }
        ),
        "gb_seconds": _some(
            {
                "actions": calls * _ACTION_MS / 1000 * gb,
                "connects": connects * (_CONNECT_MS + _DISCONNECT_MS) / 1000 * gb,
                "fan-out": job_posts / _POSTS_PER_SECOND * _FANOUT_GB,
                "server events": events_in_all * _EVENT_MS / 1000 * gb,
            }
        ),
        "writes": _some(
            {
                "connects": connects * _CONNECT_WRITES,
                "joins": joins * (_JOIN_WRITES + _GRANT_WRITES * (usage.room_size > 1)),
                "disconnects": connects * _DISCONNECT_WRITES,
                "actions": calls * _ACTION_WRITES,
                "histories": stored * (item + _HEAD_WRITES) + published * (item + _MARK_WRITES),
                "windows": windows * _WINDOW_WRITES,
                "rates of users": published * _RATE_WRITES,
                "server events": events_in_all * _EVENT_WRITES,
            }
        ),
        "storage_gb": {
            "histories": (stored + published)
            * (usage.message_kb + _ENVELOPE_KB)
            * _DAYS_STORED
            / DAYS_A_MONTH
            / _KB_PER_GB
        },
        "reads": _some(
            {
                "sends": send_reads,
                "broadcasts": broadcasts * _send_reads(online, _ITEM_KB, _STRONG_READ_KB),
                "windows": windows * _WINDOW_READS,
                "rights": published * _PUBLISH_READS,
                "connects": connects * _CONNECT_READS,
            }
        ),
        "queue_requests": _some({"idle polls": _POLLS_A_MONTH, "jobs": jobs * _REQUESTS_PER_JOB}),
        "secrets": {"the JWT secret": 1},
        "secret_calls": {
            "cold starts": connects / _CALLS_PER_COLD_START,
            "warm functions": _warm_secret_reads(connects),
        },
        "log_gb": _some(
            {
                "lines of calls": (calls + 2 * connects + jobs) * usage.log_bytes / 1024**3,
                "server events": events_in_all * _EVENT_LOG_BYTES / 1024**3,
            }
        ),
        "out_gb": {"messages": (actions + received + broadcast_posts) * usage.message_kb / _KB_PER_GB},
        **({"events": _some(events)} if usage.events else {}),
    }


@dataclass(frozen=True)
class Line:
    """One component of a bill.

    Attributes:
        price: its price.
        parts: what its quantity is made of.
        dollars: what it costs.
    """

    price: Price
    parts: Mapping[str, float]
    dollars: float

    @property
    def quantity(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())


def bill(counts: Counts, prices: Mapping[str, Price]) -> list[Line]:
    """Price the quantities of a month, component by component."""
    return [Line(prices[key], parts, prices[key].of(sum(parts.values()))) for key, parts in counts.items()]


def total(lines: Sequence[Line]) -> float:
    """The dollars of a bill."""
    return sum(line.dollars for line in lines)


def choices(usage: Usage) -> Mapping[str, Usage]:
    """The same usage under habits that cost more: what is seen in the field, one at a time."""
    return {
        "as it is": usage,
        "a ping after 30 silent seconds": replace(usage, ping=30),
        "2 KB of log for each event": replace(usage, log_bytes=2048),
        "an acknowledgement of every message": replace(usage, acknowledged=True),
        "Scan of the connections for a room": replace(usage, scan_rooms=True),
    }


def presence(usage: Usage, size: int, mode: str) -> Counts:
    """What presence adds to a month, for people who come once a day and are in one room of this size.

    Their connections are replaced every two hours, and once an hour one breaks, or a page is loaded again.

    Args:
        usage: how many people, and for how long.
        size: people in each room at once.
        mode: `list`, `count`, or `naive`: every connect and every disconnect is posted to the room at once,
            and nothing else is counted.
    """
    visits = usage.users * DAYS_A_MONTH
    connects = visits * (math.ceil(usage.hours / _MAX_CONNECTION_HOURS) + usage.hours * _BREAKS_AN_HOUR)
    if mode == "naive":
        return {"messages": {"joins and leaves": 2 * connects * size}}
    changes, looks = 2 * visits, visits + connects
    listed = mode == "list" and size <= MAX_LISTED
    rooms = usage.users / size
    windows = HOURS_A_MONTH * 3600 / max(COUNT_SECONDS, size / POSTS_A_SECOND)
    counts = rooms * windows * -math.expm1(-changes / rooms / windows) if rooms else 0
    state = _read_units(min(size, MAX_LISTED + 1) + 1, _PRESENT_KB, _STRONG_READ_KB)
    return {
        "messages": {"events": (changes if listed else counts) * size},
        "writes": {
            "users' rows": 2 * connects,
            "changes": changes * (_LISTED_WRITES if listed else _COUNTED_WRITES),
            "counts": 0 if listed else 2 * counts,
        },
        "reads": {"joins": connects * state, "looks": looks * (state + _LOOK_READS)},
        "queue_requests": {"looks": (looks + (0 if listed else counts)) * _REQUESTS_PER_JOB},
        "invocations": {"looks": looks},
        "gb_seconds": {"looks": looks * _LOOK_MS / 1000 * _FANOUT_GB},
    }


def _pings_an_hour(usage: Usage) -> float:
    """How often a connection is silent for `ping` seconds, where each message and each ping ends a silence.

    With n messages an hour that come at random moments, a silence lasts T hours with probability
    e^(-nT), and (1 - e^(-nT)) / n hours on average: so n / (e^(nT) - 1) pings an hour, and 1 / T for n = 0.
    """
    if not usage.ping:
        return 0
    messages = usage.messages_in + usage.messages_out / usage.coalesced + usage.broadcasts / 24
    messages += usage.published * (1 + usage.room_size)
    hours = usage.ping / 3600
    expected = messages * hours
    if expected > 700:  # e^700 is the end of what a double holds
        return 0
    return messages / math.expm1(expected) if expected else 1 / hours


def _warm_secret_reads(connects: float) -> float:
    """A month's reads of the secret by functions that have it: at a connect that comes when the keys are a
    minute old, so each of them waits a minute and then for its next connect."""
    minutes = DAYS_A_MONTH * 24 * 60
    connects_a_minute = connects / minutes
    functions = max(1, math.ceil(connects_a_minute * _CONNECT_MS / 60_000))
    return minutes * connects_a_minute / (connects_a_minute * MAX_AGE_SECONDS / 60 / functions + 1)


def _jobs(receivers: float) -> float:
    """How many fan-out jobs one send makes: the post jobs, and one that enumerates where there are many."""
    return (
        math.ceil(receivers / _LIMITS.job_receivers) + (receivers > _LIMITS.split)
        if receivers > _LIMITS.direct
        else 0
    )


def _send_reads(receivers: float, item_kb: float, kb_per_unit: float) -> float:
    """Of one send: the receivers, and before them those that the sender reads to see that they are many."""
    looked = _read_units(_LIMITS.split + 1, item_kb, kb_per_unit) if receivers > _LIMITS.split else 0
    return looked + _read_units(receivers, item_kb, kb_per_unit)


def _read_units(items: float, item_kb: float, kb_per_unit: float) -> float:
    """Of a Query or Scan, which rounds up at its end."""
    return math.ceil(items * item_kb / kb_per_unit)


def _some(parts: Mapping[str, float]) -> Mapping[str, float]:
    return {name: quantity for name, quantity in parts.items() if quantity} or {"none": 0}
