"""Code that runs for one call at a time: a scheduler for tests of interleavings."""

import itertools
import math
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from roomcast.errors import RoomcastError

SIGNED_FOR = 900.0
"""Seconds for which DynamoDB takes a signed request."""
_AGAIN = 10  # more than the times that Hypothesis tries a failing example
_EXPECTED = (RoomcastError, ClientError, BotoCoreError)


class Killed(BaseException):
    """The process died here. Nothing catches it but the operation itself."""


class Operation:
    """Code on a thread that goes on for one call at a time.

    Attributes:
        began: the machine's tick when it was started.
        at: the time at which it was started.
        ended: the tick when it was over; None while it runs.
        result: what it returned.
        error: what it raised, if that is an error that callers are told to expect.
        died: whether it was killed.
    """

    _mine = threading.local()

    def __init__(self, began: int, code: Callable[[], Any], at: float = 0) -> None:
        self.began = began
        self.at = at
        self.ended: int | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.died = False
        self._unexpected: BaseException | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._over = False
        self._thread = threading.Thread(target=self._run, args=(code,), daemon=True)
        self._thread.start()
        self._stopped.acquire()

    @property
    def done(self) -> bool:
        """Whether it returned."""
        return self.ended is not None and not self.died and self.error is None

    @classmethod
    def current(cls) -> "Operation | None":
        """The one that the caller runs in, if any."""
        return getattr(cls._mine, "operation", None)

    @classmethod
    def stop_here(cls) -> None:
        """Called by the code: wait for the next turn. Outside of an operation it does nothing."""
        operation = cls.current()
        if operation is None:
            return
        if not operation.died:
            operation._stopped.release()
            operation._go.acquire()
        if operation.died:
            raise Killed

    def step(self, tick: int) -> None:
        """Let it do one call."""
        self._go.release()
        self._stopped.acquire()
        if self._over:
            self.ended = tick
            self._thread.join()
            if self._unexpected is not None:
                raise self._unexpected

    def kill(self, tick: int) -> None:
        """Let it die where it is, if it still runs."""
        if self.ended is None:
            self.died = True
            self.step(tick)

    def _run(self, code: Callable[[], Any]) -> None:
        self._mine.operation = self
        try:
            self.stop_here()
            self.result = code()
        except _EXPECTED as error:
            self.error = error
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  it is raised again by `step`
            self._unexpected = error
        self._over = True
        self._stopped.release()


class SteppedMachine(RuleBasedStateMachine):
    """A state machine whose code goes on for one call at a time.

    Attributes:
        now: epoch seconds.
        ticks: counts what happens.
        running: what has not ended.
    """

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now
        self.ticks = itertools.count(1)
        self.running: list[Operation] = []

    def own_world(self, wait: Callable[[float], None]) -> dict[str, Callable[..., Any]]:
        """What is to replace the clock and chance while the machine runs: its own, for its own threads.

        The threads that other tests have left behind in this process keep the real ones. What they do may
        not change what the same seed finds.

        Args:
            wait: lets seconds pass.
        """
        machine, chance = threading.current_thread(), random.Random(1)

        def is_own() -> bool:
            return Operation.current() is not None or threading.current_thread() is machine

        def either(own: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: own(*arguments) if is_own() else real(*arguments)

        return {
            "time.sleep": either(wait, time.sleep),
            "time.monotonic": either(lambda: self.now, time.monotonic),
            "random.uniform": either(chance.uniform, random.uniform),
            "random.randint": either(chance.randint, random.randint),
        }

    def start(self, code: Callable[[], Any], steps: int = 0) -> Operation:
        """Begin something, and let it do some calls."""
        operation = Operation(next(self.ticks), code, self.now)
        self.running.append(operation)
        self.step(operation, steps)
        return operation

    def step(self, operation: Operation, steps: int) -> None:
        """Let it do some calls more."""
        for _ in range(steps):
            if operation.ended is None:
                operation.step(next(self.ticks))
        self.collect()

    def collect(self) -> None:
        """Take note of what has ended."""
        self.running = [operation for operation in self.running if operation.ended is None]

    def kill(self, choice: int) -> None:
        """Let one of them die where it is, if there are any."""
        if self.running:
            self.kill_one(self.running[choice % len(self.running)])

    def kill_one(self, operation: Operation) -> None:
        """Let this one die where it is."""
        operation.kill(next(self.ticks))
        self.collect()

    def finish(self) -> None:
        """Let everything come to its end."""
        while self.running:
            self.step(self.running[0], 99)

    def kill_all(self) -> None:
        """Let all of them die where they are."""
        for operation in self.running:
            operation.kill(next(self.ticks))


class SteppedClient:
    """A DynamoDB client whose every call, and every page, is a step.

    Args:
        client: the one that is asked.
        page_size: items of a page.
    """

    def __init__(self, client: Any, page_size: int = 2) -> None:
        self._client = client
        self._page_size = page_size

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            Operation.stop_here()
            if name in ("query", "scan"):
                arguments["Limit"] = self._page_size
            return method(**arguments)

        return call


class SignedClient:
    """A DynamoDB client whose every call is two steps: the signed request is on its way, then the answer.

    Args:
        client: the one that is asked.
        clock: epoch seconds.
        look: called after each request, before its answer is on its way.
    """

    def __init__(
        self, client: Any, clock: Callable[[], float], look: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._clock = clock
        self._look = look

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            signed = self._clock()
            Operation.stop_here()
            if self._clock() - signed > SIGNED_FOR:
                raise ClientError(
                    {"Error": {"Code": "InvalidSignatureException", "Message": "too old"}}, name
                )
            try:
                answer = method(**arguments)
            finally:
                self._look()
            Operation.stop_here()
            return answer

        return call


def run_machine(
    machine: type[RuleBasedStateMachine],
    *,
    examples: int,
    at: int,
    shrink: bool = True,
    first: int | None = None,
) -> None:
    """Try a state machine; the same seed `at` tries the same examples in every process.

    Hypothesis would also draw numbers that it finds in the sources of the modules that are loaded, and these
    are others where other tests ran before.

    Args:
        machine: which.
        examples: how many. With another number the first of them are others.
        at: the seed.
        shrink: whether a failing example is made shorter.
        first: where to stop; None: at the last of them.
    """

    # A failing example is tried again before it is told, which is not to be taken for the end.
    most = math.inf if first is None else first + _AGAIN

    class Counted(machine):  # type: ignore[misc, valid-type]
        tried = 0

        def __init__(self) -> None:
            Counted.tried += 1
            if Counted.tried > most:
                raise KeyboardInterrupt  # which Hypothesis does not take for a failure
            super().__init__()

    Counted.__name__ = machine.__name__
    try:
        with mock.patch.object(HypothesisProvider, "_maybe_draw_constant", return_value=None):
            run_state_machine_as_test(
                seed(at)(Counted),
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=40,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
                    suppress_health_check=list(HealthCheck),
                ),
            )
    except BaseException as error:
        if Counted.tried > most:  # Hypothesis has words of its own for being stopped
            return
        error.add_note(f"{Counted.tried} examples tried")
        raise


def fault_is_found(
    machine: type[RuleBasedStateMachine],
    sound: type[RuleBasedStateMachine],
    message: str,
    *,
    examples: int,
    at: int,
) -> None:
    """See that a machine with a fault fails with a message, and that the same examples pass without it."""
    try:
        run_machine(machine, examples=examples, at=at, shrink=False)
    except (AssertionError, KeyError, ExceptionGroup) as error:
        found = getattr(error, "exceptions", [error])
        assert any(re.search(message, f"{type(one).__name__} {one}") for one in found), found
        (tried,) = (int(note.split()[0]) for note in error.__notes__ if note.endswith("examples tried"))
    else:
        raise AssertionError(f"the fault is not found in {examples} examples")
    run_machine(sound, examples=examples, at=at, shrink=False, first=tried)
