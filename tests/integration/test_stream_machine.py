"""The promises of streams hold for a whole stage, in any interleaving."""

import os

import pytest

from tests.support.stepping import run_machine
from tests.support.stream_machine import System


@pytest.mark.timeout(7200)
def test_streams_of_a_stage_are_right_in_any_interleaving() -> None:
    """The gate tries the same examples each time; ROOMCAST_SEED and ROOMCAST_EXAMPLES try others."""
    examples, at = int(os.environ.get("ROOMCAST_EXAMPLES", "60")), int(os.environ.get("ROOMCAST_SEED", "18"))
    run_machine(System, examples=examples, at=at)
