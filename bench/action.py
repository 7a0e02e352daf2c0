"""The CPU of one warm action, from the event to the reply, compared with the same handler on boto3.

The action is a `ping`: ours counts it against the connection's rate and reads who it is, in one conditional
update; the peer reads the connection's item through `boto3.resource` and returns its answer, as tutorials do.
`action_same_call_ratio` compares with a peer that makes the update of ours. MiniStack answers over plain HTTP
from the other core, so TLS is in neither figure. Each connection acts more slowly than its rate.
"""

import asyncio
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.cold_start import BOTO3, stage
from bench.peers.common import PEERS, ROOT, finish, options, pin, run, venv
from roomcast_dev.local.ministack.process import MiniStack
from tests.builders import APP, create_tables, message_event

TARGETS = {"action_cpu_ratio": ("<=", 0.3), "action_same_call_ratio": ("<=", 0.3)}
CONNECTIONS = 400  # a peer needs 0.7 ms an action, so that each acts four times a second at most
KINDS = {"ours": "default", "usual": "default_returned", "usual, same call": "default_updating"}


def warm(python: Path, folder: Path, module: str, events: Path, count: int, environ: Any) -> Any:
    """One warm process."""
    os.chdir(folder)
    try:
        return run([python, PEERS / "warm_run.py", module, events, str(count)], environ)
    finally:
        os.chdir(ROOT)


async def main() -> None:
    """Measure, show, write."""
    chosen = options(__doc__.splitlines()[0])
    python = venv("boto3", BOTO3)
    jwt = importlib.util.find_spec("jwt")
    assert jwt is not None
    assert jwt.origin is not None
    rounds, count = (3, 1_000) if chosen.quick else (7, 4_000)
    ministack = MiniStack()
    pin(1)
    await ministack.start()
    taken: dict[str, list[dict[str, float]]] = {}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            jwt_folder = Path(jwt.origin).parent
            ours = stage(folder / "ours", ROOT / "lambdas", ROOT / "roomcast", jwt_folder)
            usual = stage(folder / "usual", PEERS / "usual", jwt_folder)
            environ = {
                "PYTHONPATH": "",
                "AWS_ENDPOINT_URL": ministack.url,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "WEBSOCKET_CONNECTIONS_TABLE": "connections",
                "WEBSOCKET_ROOMS_TABLE": "rooms",
                "WEBSOCKET_ROOMS": APP.rooms.dumps(),
                "WEBSOCKET_APPLICATION": "app",
                "WEBSOCKET_HISTORY_TABLE": "history",
                "WEBSOCKET_JWT_SECRET_NAME": "jwt",
            }
            events = folder / "events.json"
            events.write_text(
                json.dumps([message_event(f"c{number}=", action="ping") for number in range(CONNECTIONS)])
            )
            await asyncio.to_thread(_fill, ministack)
            for _ in range(rounds):
                for kind, module in KINDS.items():
                    code = ours if kind == "ours" else usual
                    one = await asyncio.to_thread(warm, python, code, module, events, count, environ)
                    taken.setdefault(kind, []).append(one)
    finally:
        await ministack.stop()
    print("\none action                      CPU µs   wall µs   memory MB")
    for kind, runs in taken.items():
        values = [_median(runs, key) for key in ("cpu_us", "wall_us", "memory_mb")]
        print(f"  {kind:26} {values[0]:9.0f} {values[1]:9.0f} {values[2]:11.1f}")
    mine = taken["ours"]
    figures = {
        "action_cpu_ratio": _median(mine, "cpu_us") / _median(taken["usual"], "cpu_us"),
        "action_same_call_ratio": _median(mine, "cpu_us") / _median(taken["usual, same call"], "cpu_us"),
        "action_memory_ratio": _median(mine, "memory_mb") / _median(taken["usual"], "memory_mb"),
        "action_cpu_us": _median(mine, "cpu_us"),
        "action_memory_mb": _median(mine, "memory_mb"),
    }
    finish(figures, TARGETS, chosen.json)


def _fill(ministack: MiniStack) -> None:
    dynamodb = ministack.client("dynamodb")
    create_tables(dynamodb)
    numbers = {key: {"N": "9999999999"} for key in ("ttl", "expiresAt")}
    for number in range(CONNECTIONS):
        texts = ("userId", f"u{number}"), ("userRole", "user"), ("connectedAt", "2026-01-01")
        item = {key: {"S": value} for key, value in (("connectionId", f"c{number}="), *texts)}
        dynamodb.put_item(TableName="connections", Item=item | numbers)


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(one[key] for one in runs)


if __name__ == "__main__":
    asyncio.run(main())
