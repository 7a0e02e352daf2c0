"""What is measured of a peer: start, connects, pings, sends to a room, memory; and a soak."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from typing import Any

from bench.local.client import Client
from bench.local.peer import Peer
from bench.local.peers import LandingHubReturning, SameJob

AT_A_TIME = 10


async def start(peer: Peer) -> float:
    """Seconds from spawn to the first accepted connection."""
    await peer.prepare()
    started = time.perf_counter()
    await peer.start()
    while True:
        if time.perf_counter() - started > 90:
            raise RuntimeError(f"{peer.name} did not start: see {peer.folder}")
        try:
            client = await Client.open(peer.url("first"))
        except (OSError, ConnectionError, TimeoutError):
            await asyncio.sleep(0.01)
            continue
        took = time.perf_counter() - started
        await peer.ready(client)
        client.close()
        return took


async def connect_all(peer: Peer, count: int) -> tuple[float, list[Client]]:
    """Connects a second, AT_A_TIME in flight; the connections stay open."""
    clients: list[Client] = []
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            client = await Client.open(peer.url(f"user-{number}"))
            await peer.ready(client)
            clients.append(client)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_A_TIME)))
    return count / (time.perf_counter() - started), clients


async def ping_for(peer: Peer, clients: list[Client], at_a_time: int, seconds: float) -> dict[str, float]:
    """Round trips in a closed loop with this many in flight, going round all clients.

    (Our handlers take 20 actions a second from one connection, so a single one would be held back.)
    """
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def loop(mine: list[Client]) -> None:
        for client in itertools.cycle(mine):
            if (sent := time.perf_counter()) > end:
                break
            client.send(peer.ping())
            answer = await answer_of(client)
            if b"pong" not in answer:
                raise RuntimeError(f"{peer.name} answered {answer[:200]!r}")
            times.append(time.perf_counter() - sent)

    started = time.perf_counter()
    await asyncio.gather(*(loop(clients[number::at_a_time]) for number in range(at_a_time)))
    took = time.perf_counter() - started
    times.sort()
    return {
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[int(len(times) * 0.99)] * 1000,
        "per_second": len(times) / took,
    }


async def answer_of(client: Client) -> bytes:
    """The next message that does not say who is in the room: only ours has such."""
    while b'"event":"presence:' in (message := await client.receive()):
        pass
    return message


async def fan_out(peer: Peer, clients: list[Client], members: int, times: int) -> tuple[list[float], int]:
    """Milliseconds until the last of the members has an event that was sent to their room.

    Returns:
        One figure a send that reached them all, and how many messages were lost in the others.
    """
    room = f"room{members}"
    joined = clients[:members]
    for first in range(0, members, AT_A_TIME):
        part = joined[first : first + AT_A_TIME]
        for client in part:
            client.send(peer.join(room))
        answers = await asyncio.gather(*(answer_of(client) for client in part))
        for answer in answers:
            if b"joined_room" not in answer:
                raise RuntimeError(f"{peer.name} answered {answer[:200]!r}")
    results, lost = [], 0
    for _ in range(times):
        missing = set(range(members))
        done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def seen(number: int, payload: bytes, missing: set[int] = missing, done: Any = done) -> None:
            if b"update" in payload:
                missing.discard(number)
                if not missing and not done.done():
                    done.set_result(time.perf_counter())

        for number, client in enumerate(joined):
            client.on_message = lambda payload, number=number, seen=seen: seen(number, payload)
        started = time.perf_counter()
        await peer.send_to_room(room)
        try:
            results.append((await asyncio.wait_for(done, 20) - started) * 1000)
        except TimeoutError:
            lost += len(missing)
            print(f"  {peer.name}: {len(missing)} of {members} never had it", flush=True)
        await asyncio.sleep(0.2)
    for client in joined:
        client.on_message = None
        client.received.clear()
    if not results:
        raise RuntimeError(f"{peer.name}: no send to {members} reached them all")
    return results, lost


async def measure(peer: Peer, *, quick: bool) -> dict[str, Any]:
    """Everything about one peer, in one run of it."""
    result: dict[str, Any] = {}
    try:
        result["start_s"] = await start(peer)
        await asyncio.sleep(0.5)
        result["memory_before_mb"] = peer.memory_mb()
        result["connects_200"], clients = await connect_all(peer, 200)
        for first in range(0, len(clients), AT_A_TIME):  # serverless-offline makes a thread for each one
            for client in clients[first : first + AT_A_TIME]:
                client.close()
            await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        result["connects_1000"], clients = await connect_all(peer, 1000)
        await asyncio.sleep(1)
        result["memory_1000_mb"] = peer.memory_mb()
        seconds = 2.0 if quick else 5.0
        await ping_for(peer, clients, 10, 0.5)  # warm
        one, ten = await ping_for(peer, clients, 1, seconds), await ping_for(peer, clients, 10, seconds)
        result |= {f"ping_1_{key}": value for key, value in one.items()}
        result |= {f"ping_10_{key}": value for key, value in ten.items()}
        result["round_trips"] = max(one["per_second"], ten["per_second"])
        if isinstance(peer, (SameJob, LandingHubReturning)):
            return result  # here for what a gateway makes of one event
        await peer.begin_sends()
        await asyncio.sleep(1.5)
        times = 5 if quick else 15
        result["lost"] = 0
        for members in (100, 1000):
            await fan_out(peer, clients, members, 1)  # warm
            took, lost = await fan_out(peer, clients, members, times)
            result[f"fanout_{members}_ms"] = statistics.median(took)
            result["lost"] += lost
        result["memory_after_mb"] = peer.memory_mb()
    finally:
        peer.stop()
        print("  " + ", ".join(f"{key} {value:.4g}" for key, value in result.items()), flush=True)
    return result


async def soak(peer: Peer, seconds: float) -> None:
    """100 clients connect, ping, leave, over and over: no error, and memory where it stood."""
    await start(peer)
    errors = rounds = 0
    end = time.monotonic() + seconds
    memory: list[float] = []
    try:
        while time.monotonic() < end:
            _, clients = await connect_all(peer, 100)
            for client in clients:
                client.send(peer.ping())
            answers = await asyncio.gather(*(client.receive() for client in clients), return_exceptions=True)
            errors += sum(not (isinstance(a, bytes) and b"pong" in a) for a in answers)
            for client in clients:
                client.close()
            rounds += 1
            if rounds % 20 == 1:
                memory.append(peer.memory_mb())
                print(f"round {rounds}: {errors} errors, {memory[-1]:.0f} MB", flush=True)
        await asyncio.sleep(15)
        print(
            f"{rounds} rounds of 100 clients in {seconds:.0f} s: {errors} errors; "
            f"MB at first {memory[0]:.0f}, highest {max(memory):.0f}, idle again {peer.memory_mb():.0f}"
        )
    finally:
        peer.stop()
