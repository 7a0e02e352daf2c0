"""State stays right in any interleaving, and on bad days: see `tests/support/core_machine.py`."""

import os
from collections.abc import Callable

import pytest

from tests.support.core_machine import World
from tests.support.stepping import run_machine

EXAMPLES = int(os.environ.get("ROOMCAST_EXAMPLES", "500"))
SEED = int(os.environ.get("ROOMCAST_SEED", "2"))
"""The gate tries the same examples each time; `make nightly` tries 10,000 others."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_state_stays_right_in_any_interleaving(record_property: Callable[[str, object], None]) -> None:
    record_property("seed", SEED)
    try:
        run_machine(World, examples=EXAMPLES, at=SEED)
    except BaseException as error:
        error.add_note(f"again with: ROOMCAST_SEED={SEED} ROOMCAST_EXAMPLES={EXAMPLES}")
        raise
