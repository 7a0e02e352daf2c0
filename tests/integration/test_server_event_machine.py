"""Who follows server events knows what is, in any interleaving: see `tests/support/event_machine.py`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

from roomcast.names import HookEvent
from roomcast.server_events import Facts, ServerEvents
from roomcast.store.event_numbers import EventNumbers
from tests.support.event_machine import FOLLOWED, Following
from tests.support.stepping import run_machine

EXAMPLES = int(os.environ.get("ROOMCAST_EXAMPLES", "150"))
SEED = int(os.environ.get("ROOMCAST_SEED", "3"))


class NumbersWhenItHasBegun(ServerEvents):
    """Takes the number of a join when it is done: an end may have taken one before."""

    @contextmanager
    def beginning(
        self, kind: HookEvent, user_id: str, connection_id: str, *, most: int
    ) -> Iterator[list[Facts]]:
        begun: list[Facts] = []
        yield begun
        with super().beginning(kind, user_id, connection_id, most=len(begun)) as late:
            late += begun
        del most


def gives_back_whatever(self: EventNumbers, user_id: str, last: int, count: int) -> None:
    self.take(user_id, -count)
    del last


CALM = dict.fromkeys(("die", "bad_moment", "bad_moment_of_the_bus", "revoke", "grant", "disconnect"))
"""Without these rules every example is compared."""


def machine(name: str, **members: Any) -> type[Following]:
    return type(name, (Following,), {"whole": [], **members})


@pytest.mark.timeout(600)
def test_who_follows_knows_what_is_in_any_interleaving() -> None:
    sound = machine("Sound")
    run_machine(sound, examples=EXAMPLES, at=SEED)
    assert len(sound.whole) > EXAMPLES / 5  # examples in which no number was missing


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_number_that_is_taken_too_late_is_found() -> None:
    with pytest.raises(AssertionError, match="who follows does not know what is"):
        run_machine(machine("Late", events_class=NumbersWhenItHasBegun), examples=400, at=1, shrink=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_follower_that_ignores_asked_is_found() -> None:
    def ignoring(connections: Any, event: Any) -> None:
        detail = {key: value for key, value in event["detail"].items() if key != "asked"}
        apply(connections, {**event, "detail": detail})

    apply = FOLLOWED["apply"]
    with (
        mock.patch.dict(FOLLOWED, apply=ignoring),
        pytest.raises(AssertionError, match="who follows does not know what is"),
    ):
        run_machine(machine("Ignoring", **CALM), examples=400, at=1, shrink=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_number_that_is_given_back_and_used_is_found() -> None:
    with (
        mock.patch.object(EventNumbers, "give_back", gives_back_whatever),
        pytest.raises(AssertionError, match=r"one number, two events|a number that nobody has taken"),
    ):
        run_machine(machine("Giving"), examples=400, at=1, shrink=False)
