"""From the send call to the receiver's callback: p50, p95, p99 for 1 to 10,000 receivers, on this machine.

    python bench/latency.py [--quick] [--json FILE]

Ours is the whole local run: the backend's process numbers the send and reads the members in MiniStack; more
than 200 receivers go over the queue to the workers; each post is a signed HTTP request to the stand-in, which
writes to the WebSocket. Socket.IO is one Node process that has the sockets and the rooms in its memory, so it
is the floor of what a message can take here, not a rival. Both are sent to by a line on the stdin of a warm
process, and the clock begins with that line. The clients are the same, in one process.

For each count there is the CPU of one send by process too, in milliseconds: where the time goes. With two
cores the wall time is at least half of their sum. `--quick` leaves 10,000 out.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.local.client import Client
from bench.local.measures import AT_A_TIME, connect_all, start
from bench.local.peer import Peer, tree
from bench.local.peers import Ours, SocketIO
from bench.peers.common import ROOT, options

PARTS = {  # by what is in the command line
    "ministack": "ministack.server",
    "functions": "lambda_host.worker",
    "stand-in": "roomcast_dev.cli.main",
    "backend": "WebSocketService",
    "server": "server.js",
}
_TICK = 1000 / os.sysconf("SC_CLK_TCK")  # ms


def cpu() -> dict[str, float]:
    """Milliseconds that the processes below this one have used, by part; `clients` is this one."""
    used = dict.fromkeys((*PARTS, "clients"), 0.0)
    for pid in tree(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
        part = next((part for part, sign in PARTS.items() if sign in command), "clients")
        used[part] += (int(fields[11]) + int(fields[12])) * _TICK
    return used


async def join_all(peer: Peer, clients: list[Client], room: str) -> None:
    """Let the clients join, some at a time."""
    for first in range(0, len(clients), AT_A_TIME):
        part = clients[first : first + AT_A_TIME]
        for client in part:
            client.send(peer.join(room))
        for answer in await asyncio.gather(*(client.receive() for client in part)):
            if b"joined_room" not in answer:
                raise RuntimeError(f"{peer.name} answered {answer[:200]!r}")


async def send(peer: Peer, members: list[Client], room: str) -> list[float]:
    """Milliseconds from one send to each member's callback."""
    arrived: dict[int, float] = {}
    everybody: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def seen(number: int, payload: bytes) -> None:
        if b"update" in payload:
            arrived.setdefault(number, time.perf_counter())
            if len(arrived) == len(members) and not everybody.done():
                everybody.set_result(None)

    for number, client in enumerate(members):
        client.on_message = lambda payload, number=number: seen(number, payload)
    began = time.perf_counter()
    await peer.send_to_room(room)
    try:
        await asyncio.wait_for(everybody, 60)
    except TimeoutError:
        raise RuntimeError(f"{peer.name}: {len(members) - len(arrived)} never had it") from None
    for client in members:
        client.on_message = None
        client.received.clear()
    return [(at - began) * 1000 for at in arrived.values()]


async def measure(peer: Peer, counts: list[int], figures: dict[str, float]) -> None:
    """Connect as many as the largest count needs; send to a room of each size."""
    name = peer.name.lower().replace(".", "")
    try:
        await start(peer)
        _, clients = await connect_all(peer, max(counts))
        await peer.begin_sends()
        await asyncio.sleep(1.5)
        print(f"\n{peer.name:12} receivers    p50 ms    p95 ms    p99 ms   CPU of a send, ms", flush=True)
        for count in counts:
            room, members = f"latency{count}", clients[:count]
            await join_all(peer, members, room)
            for _ in range(3):  # warm
                await send(peer, members, room)
                await asyncio.sleep(0.2)
            times, before = [], cpu()
            sends = max(5, min(50, 5000 // count))
            for _ in range(sends):
                times += await send(peer, members, room)
                await asyncio.sleep(0.1)
            used = {part: (value - before[part]) / sends for part, value in cpu().items()}
            times.sort()
            shares = [times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.95, 0.99)]
            figures |= {f"{name}_{count}_p{p}_ms": at for p, at in zip((50, 95, 99), shares, strict=True)}
            figures |= {f"{name}_{count}_{part}_cpu_ms": ms for part, ms in used.items() if ms}
            parts = ", ".join(f"{part} {ms:.1f}" for part, ms in used.items() if ms >= 0.05)
            print(f"{count:>22,}" + "".join(f"{at:10.1f}" for at in shares) + f"   {parts}", flush=True)
    finally:
        peer.stop()


async def main() -> None:
    """Measure, show, write."""
    chosen = options(__doc__.splitlines()[0] if __doc__ else "")
    counts = [1, 100, 1000] if chosen.quick else [1, 100, 1000, 10_000]
    folder = Path(tempfile.mkdtemp(prefix="bench-latency-"))
    figures: dict[str, float] = {}
    for kind in (Ours, SocketIO):
        await measure(kind(folder), counts, figures)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    os.chdir(ROOT)
    uvloop.run(main())
