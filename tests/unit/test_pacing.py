"""The brake distinguishes a throttled account from slow clients by first tries, never by retries."""

import heapq
import random
from collections.abc import Callable

import pytest

from roomcast.management_api.pacing import Brake

START = 1e6
"""Seconds: a monotonic clock does not begin with the process."""


def run(
    refuses: Callable[[int, float], bool], *, receivers: int = 2_000, seconds: float = 60, rate: float = 2_000
) -> tuple[Brake, list[float | None], dict[int, float]]:
    """Post to receivers in random order, retrying as the pool does, on a clock of our own.

    Args:
        refuses: whether the request to a receiver at a time gets a 429.
        receivers: how many.
        seconds: after which to stop.
        rate: requests a second without a brake.

    Returns:
        The brake, its pace after each request, and when each receiver was served.
    """
    brake, now, served, paces = Brake(), START, dict[int, float](), list[float | None]()
    order = list(range(receivers))
    random.shuffle(order)
    waiting = [(START, number, receiver, 0) for number, receiver in enumerate(order)]
    heapq.heapify(waiting)
    number = receivers
    while waiting and now < START + seconds:
        due, _, receiver, tries = heapq.heappop(waiting)
        now = max(now, due) + 1 / (brake.pace.rate if brake.pace else rate)
        refused = refuses(receiver, now - START)
        brake.count(now, str(receiver), throttled=refused, first=tries == 0)
        paces.append(brake.pace.rate if brake.pace else None)
        if not refused:
            served[receiver] = now - START
        elif tries + 1 < (12 if brake.is_on() else 5):
            number += 1
            pause = random.uniform(0, min(3.0, 0.1 * 2 ** (tries + 1)))
            heapq.heappush(waiting, (now + pause, number, receiver, tries + 1))
    return brake, paces, served


@pytest.mark.parametrize("slow", [1, 3, 5, 20, 100, 200, 400])
@pytest.mark.parametrize("seed", range(5))
def test_slow_clients_never_put_the_brake_on(slow: int, seed: int) -> None:
    random.seed(seed)
    _, paces, served = run(lambda receiver, _: receiver < slow)
    assert set(paces) == {None}
    assert set(served) == set(range(slow, 2_000))


@pytest.mark.parametrize("seed", range(5))
def test_a_small_send_with_slow_clients_does_not_either(seed: int) -> None:
    random.seed(seed)
    for receivers in (1, 2, 3, 4, 5, 10, 50):
        _, paces, _ = run(lambda receiver, _, r=receivers: receiver < max(1, r // 5), receivers=receivers)  # type: ignore[misc]
        assert set(paces) == {None}


@pytest.mark.parametrize("limit", [100, 500, 1_000])
@pytest.mark.parametrize("slow", [0, 20])
def test_a_throttled_account_is_slowed_down_to_about_its_limit(limit: int, slow: int) -> None:
    random.seed(limit)
    tokens, filled_at, taken, asked = limit / 10, 0.0, 0, 0

    def refuses(receiver: int, now: float) -> bool:
        nonlocal tokens, filled_at, taken, asked
        tokens = min(limit / 10, tokens + (now - filled_at) * limit)
        filled_at = now
        asked += 1
        if tokens < 1:
            return True
        tokens -= 1
        taken += 1
        return receiver < slow

    _, paces, served = run(refuses, rate=4_000, receivers=4_000)
    assert any(paces)
    assert asked < 2.5 * taken
    assert len(served) > 0.995 * (4_000 - slow)
    assert max(served.values()) < 2.5 * 4_000 / limit + 10


def test_the_brake_lets_go_when_the_account_is_no_longer_throttled() -> None:
    random.seed(1)
    brake, paces, served = run(lambda _, now: now < 0.5 and random.random() < 0.9, receivers=20_000)
    assert any(paces)
    assert brake.pace is None
    assert len(served) == 20_000


def test_a_brake_for_the_account_is_not_held_by_slow_clients() -> None:
    random.seed(2)
    brake, paces, _ = run(lambda receiver, now: receiver < 1_000 or now < 0.3, receivers=20_000, seconds=200)
    assert any(paces)
    assert brake.pace is None


def test_an_account_that_refuses_everything_stays_braked() -> None:
    random.seed(3)
    _, paces, served = run(lambda *_: True, receivers=20_000, seconds=4)
    assert served == {}
    assert paces[-1] == Brake._FLOOR
    assert len(paces) < 2_000
