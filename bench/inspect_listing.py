"""How long `roomcast inspect` takes for a table of connections, from the shell's prompt to the last line.

    bench/inspect_listing.py [--quick] [--connections 10000] [--endpoint URL]

Without --endpoint it asks MiniStack, which it starts; with it, say, DynamoDB Local on http://127.0.0.1:8000.
The peer is what one would write without the command: boto3's resource, a Scan, every item printed.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3

from roomcast_dev.local.environment import CREDENTIALS
from roomcast_dev.local.ministack.process import MiniStack
from tests.builders import create_tables

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("bench-connections", "bench-rooms")
PEER = """
import sys, boto3
table = boto3.resource("dynamodb").Table(sys.argv[1])
page = table.scan()
while True:
    for item in page["Items"]:
        print(item["userId"], item["userRole"], *item["rooms"], item["connectedAt"], item["connectionId"])
    if "LastEvaluatedKey" not in page:
        break
    page = table.scan(ExclusiveStartKey=page["LastEvaluatedKey"])
"""


def fill(client: Any, count: int) -> None:
    now = int(time.time())
    items: list[dict[str, Any]] = [
        {
            "connectionId": {"S": f"TWeg{number:08}EowCHnA="},
            "userId": {"S": f"user-{number % (count * 3 // 4 + 1)}"},
            "userRole": {"S": "admin" if number % 50 == 0 else "user"},
            "userName": {"S": f"Given Family {number}"},
            "userEmail": {"S": f"user-{number}@example.com"},
            "connectedAt": {"S": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now - number % 7200))},
            "rooms": {"SS": [f"dashboard_user_user-{number}", f"chat_room_{number % 400}"]},
            "ttl": {"N": str(now + 86400)},
            "expiresAt": {"N": str(now + 3600)},
        }
        for number in range(count)
    ]
    for start in range(0, count, 25):
        writes = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        client.batch_write_item(RequestItems={TABLES[0]: writes})


def seconds(command: list[str], environ: dict[str, str], runs: int) -> tuple[float, float]:
    """Median seconds of a command: on the wall clock, and of its own processor time."""
    wall, cpu = [], []
    for _ in range(runs):
        before, began = _children(), time.perf_counter()
        subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
        wall.append(time.perf_counter() - began)
        cpu.append(_children() - before)
    return statistics.median(wall), statistics.median(cpu)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(endpoint: str, count: int, runs: int) -> None:
    environ = {
        **os.environ,
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ.update(environ)
    client: Any = boto3.client("dynamodb")
    create_tables(client, *TABLES)
    try:
        fill(client, count)
        with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
            file.write(f"WEBSOCKET_CONNECTIONS_TABLE={TABLES[0]}\nWEBSOCKET_ROOMS_TABLE={TABLES[1]}\n")
            file.flush()
            roomcast = [str(ROOT / ".venv/bin/roomcast"), "inspect", "--yes", "--env-file", file.name]
            ours = seconds(roomcast, environ, runs)
            rooms = seconds([*roomcast, "rooms"], environ, runs)
        peer = seconds([sys.executable, "-c", PEER, TABLES[0]], environ, runs)
    finally:
        for table in TABLES:
            client.delete_table(TableName=table)
    print(f"{count:,} connections, median of {runs}, process start included:")
    for name, (wall, cpu) in (
        ("roomcast inspect", ours),
        ("roomcast inspect rooms", rooms),
        ("boto3, Scan", peer),
    ):
        print(f"  {name:24}{wall:6.2f} s, of it {cpu:5.2f} s processor time")
    print(f"  ratio peer / ours       {peer[0] / ours[0]:6.2f}   {peer[1] / ours[1]:13.2f}")


async def with_ministack(count: int, runs: int) -> None:
    stack = MiniStack()
    await stack.start()
    try:
        await asyncio.to_thread(measure, stack.url, count, runs)
    finally:
        await stack.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--endpoint", help="of a DynamoDB that runs already")
    options = parser.parse_args()
    runs = 1 if options.quick else 5
    if options.endpoint:
        measure(options.endpoint, options.connections, runs)
    else:
        asyncio.run(with_ministack(options.connections, runs))


if __name__ == "__main__":
    main()
