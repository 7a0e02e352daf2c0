"""What a day of work does to `roomcast dev`: crowds that come and go, files that are saved meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import jwt
import pytest
from dotenv import dotenv_values
from websockets.asyncio.client import connect

from roomcast_dev.local.lambda_host.pool import PoolLimits
from tests.e2e.test_dev import Dev


def memory_mb(dev: Dev) -> float:
    """PSS of the process and its descendants: pages that forked workers share count once."""
    total = 0
    for pid in dev.family():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it ended meanwhile
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def rows_left(dev: Dev) -> int:
    """Rows in both tables."""
    settings = dotenv_values(dev.env_file)
    dynamodb = boto3.client("dynamodb", endpoint_url=settings["AWS_ENDPOINT_URL"], region_name="us-east-1")
    tables = [settings["WEBSOCKET_CONNECTIONS_TABLE"], settings["WEBSOCKET_ROOMS_TABLE"]]
    return sum(dynamodb.scan(TableName=table or "", Select="COUNT")["Count"] for table in tables)


async def crowd(dev: Dev, count: int) -> None:
    """So many users connect, join, and leave at once, half of them without a word."""
    secret = dotenv_values(dev.env_file)["JWT_SECRET"] or ""
    gate = asyncio.Semaphore(20)
    everyone_in = asyncio.Barrier(count)

    async def one(number: int) -> None:
        claims = {"userId": f"user-{number}", "iat": int(time.time()), "exp": int(time.time()) + 600}
        url = f"ws://127.0.0.1:{dev.port}/?token={jwt.encode(claims, secret)}"
        async with gate:
            client = await connect(url, compression=None, open_timeout=60, close_timeout=20).__aenter__()
            await client.send('{"action": "dashboard:join"}')
            answer = await asyncio.wait_for(client.recv(), 60)
            assert "dashboard:joined" in str(answer), answer
        await everyone_in.wait()
        if number % 2:
            await client.close()
        else:
            client.transport.abort()

    await asyncio.gather(*(one(number) for number in range(count)))


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    running = Dev(tmp_path, "--quiet")
    try:
        running.wait_ready()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_thousand_clients_that_leave_at_once_leave_nothing_behind(dev: Dev) -> None:
    await crowd(dev, 100)  # what stays after a first crowd is what the work needs, not a leak
    await wait_until_empty(dev)
    await asyncio.sleep(PoolLimits().shrink_after * 1.5)
    before = memory_mb(dev)
    await crowd(dev, 1000)
    await wait_until_empty(dev)
    await asyncio.sleep(PoolLimits().shrink_after * 1.5)
    assert dev.process.poll() is None
    assert memory_mb(dev) < before * 1.2


async def wait_until_empty(dev: Dev) -> None:
    deadline = time.monotonic() + 60
    while left := await asyncio.to_thread(rows_left, dev):
        assert time.monotonic() < deadline, f"{left} rows left"
        await asyncio.sleep(0.2)
