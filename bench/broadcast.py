"""The time until the last receiver has a broadcast, over the floor that the rate sets (receivers / rate).

10,000 connections in DynamoDB Local are run for real: a send job on MiniStack's queue, five workers as the
stack has them, each a process of its own with its share of the rate, and a fake management API that notes
each arrival. With the constants measured there, 100,000 and 1,000,000 are simulated with the workers and the
pace of the stage `prod`: they take jobs as they appear, the slices first and then the posts, and each keeps
its pace.
"""

import asyncio
import heapq
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.peers.common import PEERS, ROOT, finish, options
from roomcast.sending.job import SendLimits
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.receivers import MAX_SLICES, SLICE_RECEIVERS
from roomcast_dev.local.ministack.process import MiniStack
from tests.builders import APP, create_tables
from tests.fakes.management_api import FakeManagementApi
from tests.support.dynamodb_local import dynamodb_local

RECEIVERS = 10_000
WORKERS, RATE = 5, 600  # as many as two cores carry; the pace is that of the stage `prod`
PROD = json.loads((ROOT / "cdk.json").read_text())["context"]["stages"]["prod"]
SLACK = 0.25  # s; what a worker makes up for, as roomcast.management_api.pacing does
TARGETS = {f"over_floor_{size}": ("<=", 1.2) for size in ("10k", "100k", "1m")}


@dataclass(frozen=True)
class Constants:
    """What one run shows of the pipeline, in seconds.

    Attributes:
        start: from the send to the worker that takes the send job.
        sliced: from there until the slice jobs are on the queue.
        per_receiver: of the enumeration of a slice.
        fetch: to receive a job and to delete it.
        post: what a post job takes beyond its paced posts.
    """

    start: float
    sliced: float
    per_receiver: float
    fetch: float
    post: float


def simulate(slices: Sequence[int], constants: Constants, count: int, rate: int) -> float:
    """Seconds until the last receiver has it.

    Args:
        slices: how many receivers each has. Their jobs are on the queue before any post job, so all workers
            enumerate first.
        constants: of the pipeline.
        count: of workers.
        rate: posts a second of one worker.
    """
    size = SendLimits().job_receivers
    workers = [(constants.start, 0.0)] * count  # free at, the pace's next slot
    free, slot = heapq.heappop(workers)
    sliced = free + constants.sliced
    heapq.heappush(workers, (sliced, slot))
    queued: list[tuple[float, int]] = []
    for receivers in slices:
        free, slot = heapq.heappop(workers)
        begins = max(free, sliced) + constants.fetch
        for start in range(0, receivers, size):
            posts = min(size, receivers - start)
            queued.append((begins + (start + posts) * constants.per_receiver, posts))
        heapq.heappush(workers, (begins + receivers * constants.per_receiver, slot))
    last = 0.0
    for at, posts in sorted(queued):
        free, slot = heapq.heappop(workers)
        begins = max(free, at) + constants.fetch
        slot = max(slot, begins - SLACK) + posts / rate
        ends = max(begins, slot) + constants.post
        last = max(last, ends)
        heapq.heappush(workers, (ends, slot))
    return last


def even_slices(receivers: int) -> list[int]:
    """A broadcast's slices, all of one size."""
    count = min(MAX_SLICES, -(-receivers // SLICE_RECEIVERS))
    return [receivers // count] * count


async def measure() -> tuple[float, Constants]:
    """Run 10,000 for real: the seconds until the last one had it, and the constants."""
    ministack = MiniStack()
    await ministack.start()
    workers: list[subprocess.Popen[str]] = []
    try:
        with FakeManagementApi() as api, dynamodb_local() as dynamodb:
            await asyncio.to_thread(_fill, dynamodb)
            sqs = ministack.client("sqs")
            url = sqs.create_queue(QueueName="fanout")["QueueUrl"]
            environ = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "AWS_ENDPOINT_URL": ministack.url,
                "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.meta.endpoint_url,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "WEBSOCKET_CONNECTIONS_TABLE": "connections",
                "WEBSOCKET_ROOMS_TABLE": "rooms",
                "WEBSOCKET_ROOMS": APP.rooms.dumps(),
                "WEBSOCKET_API_ENDPOINT": api.endpoint,
                "WEBSOCKET_FANOUT_QUEUE_URL": url,
                "WEBSOCKET_FANOUT_RATE": str(RATE),
            }
            command = [sys.executable, str(PEERS / "broadcast_worker.py")]
            workers += [
                subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
                for _ in range(WORKERS)
            ]
            for worker in workers:
                assert worker.stdout
                assert worker.stdout.readline() == "ready\n"
            store = Store(Tables(dynamodb, "connections", "rooms"), APP.rooms)
            for _ in range(10):  # DynamoDB is warm; a Java process that has just started is not
                assert sum(1 for _ in store.receivers.of_everybody()) == RECEIVERS
            job = {"version": 1, "to": {"all": True}, "event": "notice", "data": {"text": "x" * 200}}
            began = time.monotonic()
            sqs.send_message(QueueUrl=url, MessageBody=json.dumps(job))
            while len(api.delivered) < RECEIVERS:
                if time.monotonic() - began > 120:
                    sys.exit(f"only {len(api.delivered)} of {RECEIVERS} were reached in 120 s")
                await asyncio.sleep(0.01)
            took = max(request.at for request in api.requests) - began
            assert len(api.requests) == RECEIVERS, "a receiver was posted to twice"
            await asyncio.sleep(0.5)  # until the last job is deleted
            for worker in workers:
                worker.terminate()
            lines = [json.loads(line) for worker in workers for line in _rest(worker)]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        await ministack.stop()
    return took, _constants(began, lines)


def _rest(worker: "subprocess.Popen[str]") -> list[str]:
    assert worker.stdout
    return [line for line in worker.stdout.read().splitlines() if line.endswith("}")]


def _constants(began: float, lines: list[dict[str, float]]) -> Constants:
    send, *slices = sorted(
        (line for line in lines if not line["receivers"]), key=lambda line: line["received"]
    )
    posts = [line for line in lines if line["receivers"]]
    # What a full job takes beyond 100 posts at the pace; less where it makes up for time lost before.
    beyond = [line["done"] - line["received"] - line["receivers"] / RATE for line in posts]
    return Constants(
        start=send["received"] - began,
        sliced=send["done"] - send["received"],
        per_receiver=sum(line["done"] - line["received"] for line in slices) / RECEIVERS,
        fetch=statistics.mean(line["deleted"] - line["done"] for line in posts) * 2,
        post=max(0.0, statistics.median(beyond)),
    )


def _fill(dynamodb: Any) -> None:
    """The tables, and 10,000 connections."""
    create_tables(dynamodb)
    end = {"N": "9999999999"}
    for start in range(0, RECEIVERS, 25):
        items: list[Any] = [
            {
                "connectionId": {"S": f"TWegAcC4EowC{number:06}="},
                "userId": {"S": f"user-{number}"},
                "userRole": {"S": "user"},
                "userName": {"S": "A Name"},
                "userEmail": {"S": "name@example.test"},
                "connectedAt": {"S": "2026-01-01T00:00:00.000Z"},
                "ttl": end,
                "expiresAt": end,
            }
            for number in range(start, start + 25)
        ]
        requests = [{"PutRequest": {"Item": item}} for item in items]
        dynamodb.batch_write_item(RequestItems={"connections": requests})


def main() -> None:
    """Measure, simulate, show, write."""
    chosen = options(__doc__.splitlines()[0])
    runs = [asyncio.run(measure()) for _ in range(1 if chosen.quick else 3)]
    took, constants = sorted(runs, key=lambda run: run[0])[(len(runs) - 1) // 2]
    print(f"jobs of {SendLimits().job_receivers}; {constants}")
    floor = RECEIVERS / (WORKERS * RATE)
    figures = {"over_floor_10k": took / floor}
    simulated = simulate(even_slices(RECEIVERS), constants, WORKERS, RATE)
    print(f"   10,000 measured   {took:8.2f} s, floor {floor:8.2f} s: {WORKERS} workers, {RATE} posts/s each")
    print(f"   10,000 simulated  {simulated:8.2f} s: how well the simulation does")
    workers, pace = PROD["fanout_concurrency"], PROD["fanout_rate"]
    for size, receivers in (("100k", 100_000), ("1m", 1_000_000)):
        seconds, floor = (
            simulate(even_slices(receivers), constants, workers, pace),
            receivers / (workers * pace),
        )
        print(
            f"{receivers:9,} simulated  {seconds:8.2f} s, floor {floor:8.2f} s: "
            f"{workers} workers, {pace} posts/s each"
        )
        figures[f"over_floor_{size}"] = seconds / floor
    figures["over_floor_10k_simulated"] = simulated / (RECEIVERS / (WORKERS * RATE))
    finish(figures, TARGETS, chosen.json)


if __name__ == "__main__":
    main()
