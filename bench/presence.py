"""Presence under churn: what members hear, what it costs in billed messages, and whether the list is exact.

    bench/presence.py [--quick] [--json FILE]

Two rooms, one of 80 users, which are listed, and one of 200, which are counted. Up to 20 times a second a
connection breaks; nine of ten users are back within the grace, one goes away for a minute. Connections are
replaced when they are two hours old, the new one first. The clock is simulated, so the figures are counts;
the code is the product's, on the fake of DynamoDB. The peer is what tutorials do: every connect and every
disconnect is posted to all connections at once.
"""

import json
import random
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.peers.common import finish, options
from roomcast.management_api.report import PostReport
from roomcast.store.presence import GRACE, LONGEST
from tests.support.presence_stage import ROOM, Stage

BREAKS_A_SECOND = 20
AWAY_FOR_LONG = 0.1
TARGETS = {
    f"{room}_{figure}": target
    for room in ("listed", "counted")
    for figure, target in {
        "wrong_events": ("<=", 0.0),
        "is_exact": (">=", 1.0),
        "share_of_naive": ("<=", 0.2),
    }.items()
}


class Counting(Stage):
    """Counts what is posted, and which of it is wrong.

    Args:
        gone_at: when users went who have no connection now.
    """

    def __init__(self, gone_at: Mapping[str, float]) -> None:
        super().__init__()
        self.gone_at = gone_at
        self.told: set[str] = set()
        self.posts = self.events = self.wrong = 0
        self.last = ""

    def post_pages(self, pages: Iterable[Iterable[str]], body: bytes, **options: Any) -> PostReport:
        """Also looks at each event once."""
        envelope = json.loads(body)
        event, user = envelope["event"], envelope["data"].get("user", {}).get("id", "")
        is_new, self.last = self.last != envelope["id"], envelope["id"]  # a large one comes in parts
        self.events += is_new
        if is_new and event == "presence:joined":
            self.wrong += user in self.told
            self.told.add(user)
        elif is_new and event == "presence:left":
            self.wrong += user not in self.told or self.now - self.gone_at.get(user, self.now) < GRACE
            self.told.discard(user)
        report = super().post_pages(pages, body, **options)
        self.posts += len(report.sent)
        self.got.clear()
        return report


class Churn:
    """One room and its people.

    Args:
        users: how many.
        at: the seed.
    """

    def __init__(self, users: int, at: int) -> None:
        self.gone_at: dict[str, float] = {}
        self.stage = Counting(self.gone_at)
        self.stage.db.index_lags = True  # nothing here asks the index, and copying it takes most of the time
        self.random = random.Random(at)
        self.users = [f"user{number}" for number in range(users)]
        self.open: dict[str, tuple[str, float]] = {}  # of a user: the connection, and when it is replaced
        self.back: list[tuple[float, str]] = []
        self.made = self.naive = self.breaks = self.handovers = 0
        for user in self.users:
            self.connect(user, self.random.uniform(0, LONGEST))
        self.stage.pass_time(60)
        self.naive = self.stage.posts = self.stage.events = 0

    def connect(self, user: str, lasts: float = LONGEST - 60) -> None:
        """A connection joins the room; a naive room is told."""
        self.made += 1
        connection_id = f"c{self.made}="
        self.stage.join(connection_id, user)
        self.gone_at.pop(user, None)
        self.open[user] = (connection_id, self.stage.now + lasts)
        self.naive += len(self.open)

    def break_off(self, user: str) -> None:
        """A connection ends without a word."""
        connection_id, _ = self.open.pop(user)
        self.stage.disconnect(connection_id)
        self.naive += len(self.open)

    def run(self, seconds: int) -> None:
        """Let time pass."""
        end = self.stage.now + seconds
        while self.stage.now < end:
            for _ in range(BREAKS_A_SECOND):
                user = self.random.choice(self.users)
                if user in self.open:
                    self.breaks += 1
                    self.break_off(user)
                    away = 60 if self.random.random() < AWAY_FOR_LONG else self.random.uniform(0, GRACE - 5)
                    self.gone_at[user] = self.stage.now
                    self.back.append((self.stage.now + away, user))
            for user, (connection_id, until) in list(self.open.items()):
                if until <= self.stage.now:
                    self.handovers += 1
                    self.connect(user)
                    self.stage.disconnect(connection_id)
                    self.naive += len(self.open)
            for due in sorted(due for due in self.back if due[0] <= self.stage.now):
                self.back.remove(due)
                self.connect(due[1])
            self.stage.pass_time(1)

    def settle(self) -> None:
        """Let everybody come back, and all leaves be told."""
        for _, user in self.back:
            self.connect(user)
        self.back.clear()
        self.stage.pass_time(120)

    def figures(self, name: str) -> dict[str, float]:
        """What was heard, and how it compares."""
        here, _ = self.stage.store.presences.read(self.stage.store.rooms.parse(ROOM))
        exact = here.count == len(self.users) and (here.users is None or set(here.users) == set(self.users))
        return {
            f"{name}_breaks": self.breaks,
            f"{name}_handovers": self.handovers,
            f"{name}_events": self.stage.events,
            f"{name}_wrong_events": self.stage.wrong,
            f"{name}_is_exact": float(exact),
            f"{name}_billed_messages": self.stage.posts,
            f"{name}_naive_messages": self.naive,
            f"{name}_share_of_naive": self.stage.posts / self.naive,
        }


def main() -> None:
    """Measure, show, write."""
    chosen = options(__doc__.splitlines()[0])
    figures: dict[str, float] = {}
    for name, users in (("listed", 80), ("counted", 200)):
        churn = Churn(users, at=users)
        churn.run(60 if chosen.quick else 300)
        churn.settle()
        figures |= churn.figures(name)
    finish(figures, TARGETS, chosen.json)


if __name__ == "__main__":
    main()
