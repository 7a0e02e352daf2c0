"""How fast the local gateway is compared with what people use today, measured in turn on this machine.

    python bench/local_gateway.py [--quick] [--json FILE] [--only NAME ...] [--soak SECONDS]

One load client (`bench/local/client.py`) drives each peer over the same WebSocket actions with the same
tokens: connects, pings, sends to a room. Each keeps its real hops: processes for the functions, HTTP for the
management API, a database (the same MiniStack for all but Socket.IO, which has none: it is context only).

Peers are installed into `build/bench-peers/`, versions pinned in `bench/peers/*/package.json`.
Memory is PSS of the process tree (pages that forked processes share count once): ours with MiniStack in it,
serverless-offline without.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.local.measures import measure, soak, start
from bench.local.peer import Peer
from bench.local.peers import LandingHub, LandingHubReturning, MiniStackAlone, Ours, SameJob, SocketIO
from bench.local.report import report

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Ours, SameJob, LandingHub, LandingHubReturning, MiniStackAlone, SocketIO)
}


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round, shorter pings")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="soak our own stack instead")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-local-gateway-"))
    print(f"logs in {folder}", flush=True)
    warm = Ours(folder)  # synthesizes, so that every start that counts is a second start
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(warm.stop)
        await start(warm)
    if options.soak:
        await soak(Ours(folder), options.soak)
        return 0
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    for number in range(1 if options.quick else 3):
        for name in options.only:
            print(f"round {number + 1}: {name} ...", flush=True)
            try:
                results[name].append(await measure(PEERS[name](folder), quick=options.quick))
            except (RuntimeError, TimeoutError, OSError) as problem:
                if name in {Ours.name, LandingHub.name}:
                    raise
                print(f"  {name}: {problem}", flush=True)  # context, not a rival
    summary = report({name: runs for name, runs in results.items() if runs})
    if options.json:
        options.json.write_text(json.dumps(summary, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
