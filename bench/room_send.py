"""What a room send reads: roomcast's Query of the room compared with LandingHub's Scan of all connections.

On AWS's DynamoDB Local with `ReturnConsumedCapacity`. Rooms of 10, 100 and 1,000 members, while the
connections grow from 1,000 to 100,000. Read units are what DynamoDB bills; the times are of this machine.
With `--quick` the Scan is done only for the rooms of 100: it reads the same for all.
"""

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from botocore.credentials import Credentials

from bench.peers.common import finish, options
from roomcast.management_api.client import ManagementApi
from roomcast.rooms import Room
from roomcast.service import WebSocketService
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.builders import APP, chat, create_tables
from tests.fakes.management_api import FakeManagementApi
from tests.support.dynamodb_local import dynamodb_local

ROOMS = (10, 100, 1_000)
CONNECTIONS = (1_000, 10_000, 100_000)
TARGETS = {"read_units_ratio": (">=", 500.0), "read_units_growth": ("<=", 1.0)}


class Taken(NamedTuple):
    """What a read took; the least time comes first."""

    ms: float
    units: float
    count: int


class Meter:
    """Counts the read units that a client consumes."""

    def __init__(self, client: Any) -> None:
        self.units = 0.0
        events = client.meta.events
        events.register("provide-client-params.dynamodb.*", self._ask)
        events.register("after-call.dynamodb.*", self._count)

    def _ask(self, params: dict[str, Any], **_: object) -> dict[str, Any]:
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _count(self, parsed: dict[str, Any], **_: object) -> None:
        consumed = parsed.get("ConsumedCapacity", [])
        for one in [consumed] if isinstance(consumed, dict) else consumed:
            self.units += one["CapacityUnits"]


def _take(meter: Meter, read: Callable[[Room], Iterable[object]], room: Room) -> Taken:
    meter.units = 0.0
    began = time.perf_counter()
    count = sum(1 for _ in read(room))
    return Taken((time.perf_counter() - began) * 1e3, meter.units, count)


def landinghub(client: Any, room: str) -> Iterable[object]:
    """LandingHub's way to a room: a Scan of the connections that contain its name."""
    pages = client.get_paginator("scan").paginate(
        TableName="connections",
        FilterExpression="contains(rooms, :room)",
        ExpressionAttributeValues={":room": {"S": room}},
    )
    for page in pages:
        yield from page["Items"]


def fill(client: Any, start: int, end: int) -> None:
    """Connections with these numbers; the first n of all are the members of the room of n."""
    until = {"N": "9999999999"}
    connections: list[Any] = []
    members: list[Any] = []
    for number in range(start, end):
        rooms = [f"chat_room_{size}" for size in ROOMS if number < size] or ["dashboard_user_x"]
        common = {
            "userId": {"S": f"user-{number}"},
            "connectedAt": {"S": "2026-01-01T00:00:00.000Z"},
            "ttl": until,
            "expiresAt": until,
        }
        connection_id = f"TWegAcC4EowC{number:06}="
        connections.append(
            {
                "connectionId": {"S": connection_id},
                "userRole": {"S": "user"},
                "userName": {"S": "A Name"},
                "userEmail": {"S": "a.name@example.test"},
                "rooms": {"SS": rooms},
                **common,
            }
        )
        members += [
            {"room": {"S": room}, "member": {"S": f"connection#{connection_id}"}, **common} for room in rooms
        ]
    with ThreadPoolExecutor(8) as threads:
        for table, items in (("connections", connections), ("rooms", members)):
            batches = [items[at : at + 25] for at in range(0, len(items), 25)]

            def write(batch: list[Any], table: str = table) -> None:
                requests = {table: [{"PutRequest": {"Item": item}} for item in batch]}
                while requests:
                    requests = client.batch_write_item(RequestItems=requests).get("UnprocessedItems")

            list(threads.map(write, batches))


def main() -> None:
    """Measure, show, write."""
    chosen = options(__doc__.splitlines()[0])
    units: dict[tuple[str, int, int], float] = {}
    ratios: dict[tuple[int, int], float] = {}
    with dynamodb_local() as client, FakeManagementApi() as api:
        create_tables(client)
        meter = Meter(client)
        store = Store(Tables(client, "connections", "rooms"), APP.rooms)
        gateway = ManagementApi(api.endpoint, region="us-east-1", credentials=Credentials("AKID", "SECRET"))
        service = WebSocketService(store, gateway)
        print("connections  members     Query: units      ms     Scan: units        ms    whole send: ms")
        filled = 0
        for connections in CONNECTIONS:
            fill(client, filled, connections)
            filled = connections
            for size in ROOMS:
                room = chat(str(size))
                query = min(_take(meter, store.receivers.of_room, room) for _ in range(3))
                scan = None
                if size == 100 or not chosen.quick:
                    scan = _take(meter, lambda room: landinghub(client, room.name), room)
                    units["scan", connections, size] = scan.units
                    assert scan.count == size
                assert query.count == size
                began = time.perf_counter()
                assert service.send_to_room(room.name, "e", {}).sent == size
                whole = (time.perf_counter() - began) * 1e3
                scanned = f"{scan.units:15,.1f} {scan.ms:9,.0f}" if scan else " " * 25
                line = f"{connections:11,} {size:8,} {query.units:16,.1f} {query.ms:7,.0f} {scanned}"
                print(f"{line} {whole:17,.0f}", flush=True)
                units["query", connections, size] = query.units
                if scan:
                    ratios[connections, size] = scan.ms / query.ms
        service.close()
    most, least = CONNECTIONS[-1], CONNECTIONS[0]
    figures = {
        "read_units_ratio": units["scan", most, 100] / units["query", most, 100],
        "read_units_growth": max(units["query", most, n] / units["query", least, n] for n in ROOMS),
        "read_units_100_of_100000": units["query", most, 100],
        "scan_read_units_100000": units["scan", most, 100],
        "time_ratio": ratios[most, 100],
    }
    finish(figures, TARGETS, chosen.json)


if __name__ == "__main__":
    main()
