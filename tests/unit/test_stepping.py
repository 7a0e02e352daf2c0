"""The machines' scheduler."""

import threading
import time
from unittest import mock

from hypothesis.stateful import rule

from tests.support.stepping import SteppedMachine


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
