"""The machines' scheduler."""

import importlib.util
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.support.stepping import SteppedMachine, run_machine


class Machine(SteppedMachine):
    """A machine must have a rule."""

    @rule()
    def rest(self) -> None: ...


def test_threads_of_other_tests_do_not_change_a_machines_time() -> None:
    machine = Machine(now=1000.0)
    passed: list[float] = []
    seen: list[float] = []

    def wait(seconds: float) -> None:
        machine.now += seconds
        passed.append(seconds)

    def leftover() -> None:
        time.sleep(0.001)
        seen.append(time.monotonic())

    def own() -> None:
        time.sleep(7)
        seen.append(time.monotonic())

    patches = [mock.patch(name, value) for name, value in machine.own_world(wait).items()]
    before = time.monotonic()
    for patch in patches:
        patch.start()
    try:
        thread = threading.Thread(target=leftover)
        thread.start()
        thread.join()
        machine.start(own, steps=1)
        time.sleep(5)
    finally:
        for patch in patches:
            patch.stop()
    assert passed == [7, 5]
    assert seen[0] >= before  # the real clock
    assert seen[1] == 1007.0


def test_the_same_seed_tries_the_same_examples_whatever_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> list[int]:
        numbers: list[int] = []

        class Drawing(SteppedMachine):
            def __init__(self) -> None:
                super().__init__(now=0.0)

            @rule(number=st.integers(0, 100_000))
            def draw(self, number: int) -> None:
                numbers.append(number)

        run_machine(Drawing, examples=20, at=1)
        return numbers

    before = drawn()
    source = tmp_path / "other.py"
    source.write_text("NUMBERS = [31_337, 31_338, 31_339, 31_340, 31_341]")
    spec = importlib.util.spec_from_file_location("other", source)
    assert spec is not None
    monkeypatch.setitem(sys.modules, "other", importlib.util.module_from_spec(spec))
    assert drawn() == before


@pytest.mark.parametrize("failing", [3, 9, 12])
def test_a_failure_in_the_last_example_before_the_stop_is_one(failing: int) -> None:
    drawn: list[list[int]] = []
    never: set[int] = set()

    class Drawing(SteppedMachine):
        def __init__(self) -> None:
            super().__init__(now=0.0)
            drawn.append([])

        @rule(number=st.integers(0, 10**9))
        def draw(self, number: int) -> None:
            drawn[-1].append(number)
            assert number not in never, "it has failed"

    run_machine(Drawing, examples=60, at=1, first=failing)
    never |= set(drawn[failing - 1]).difference(*drawn[: failing - 1])
    assert never
    with pytest.raises(AssertionError, match="it has failed"):
        run_machine(Drawing, examples=60, at=1, shrink=False, first=failing)
