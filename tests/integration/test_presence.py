"""Presence: users and not connections, a delayed leave, versions, counts of crowds, ghosts."""

import os
from typing import Any
from unittest import mock

import pytest

from roomcast.rooms import Room
from roomcast.store.presence import Presences, _user_key
from tests.support.presence_machine import World
from tests.support.stepping import run_machine

EXAMPLES = int(os.environ.get("ROOMCAST_EXAMPLES", "150"))
SEED = int(os.environ.get("ROOMCAST_SEED", "5"))
"""The gate tries the same examples each time."""


@pytest.mark.timeout(3600)
def test_presence_is_right_in_any_interleaving() -> None:
    try:
        run_machine(World, examples=EXAMPLES, at=SEED)
    except BaseException as error:
        error.add_note(f"again with: ROOMCAST_SEED={SEED} ROOMCAST_EXAMPLES={EXAMPLES}")
        raise


class NoGrace(Presences):
    """Tells a leave as soon as somebody looks."""

    def look(self, room: Room, user_id: str) -> Any:
        with mock.patch("roomcast.store.presence.GRACE", -1_000_000):
            return super().look(room, user_id)


class ByLastJoinOnly(Presences):
    """Does not note when a tab has closed."""

    def leave(self, room: Room, user_id: str) -> bool:
        return bool(self._get(_user_key(room, user_id)))


class Unconditional(Presences):
    """Tells what it has read, whoever has come or gone since."""

    def _change(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        change = super()._change(*arguments, **more)
        ((_, write),) = change.items()
        write["ConditionExpression"] = "attribute_exists(changes) OR :changes = :changes"
        return change


class ConnectionsFirst(Presences):
    """Reads the connections before the row."""

    def look(self, room: Room, user_id: str) -> Any:
        is_here = super().is_connected(room, user_id)
        with mock.patch.object(self, "is_connected", return_value=is_here):
            return super().look(room, user_id)


class Haunted(Presences):
    """Believes a connection for as long as it is kept."""

    def is_connected(self, room: Room, user_id: str) -> bool:
        with mock.patch("roomcast.store.presence.LONGEST", 10**9):
            return super().is_connected(room, user_id)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (NoGrace, "was here"),
        (ByLastJoinOnly, "was here"),
        (
            Unconditional,
            "was here|is here and not listed|the list is not exact|was told is not|is two things",
        ),
        (ConnectionsFirst, "was here|is here and not listed|the list is not exact"),
        (Haunted, "haunts the"),
    ],
)
def test_the_machine_finds(faulty: type[Presences], message: str) -> None:
    class Faulty(World):
        presences_class = faulty
        bad_days = ()

    with pytest.raises(AssertionError, match=message):
        run_machine(Faulty, examples=400, at=SEED, shrink=False)
