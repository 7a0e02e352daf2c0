"""A FastAPI backend with 60 concurrent sends: how long `/health` and they take, by three ways to send.

`AsyncWebSocketService`, compared with `WebSocketService` in asyncio's default threads (`asyncio.to_thread`)
and with `WebSocketService` called in the handler, which stops the loop. Each way serves in a process of its
own; DynamoDB (100 ms a call) and the management API are fakes in another one. The user has three connections.
"""

import asyncio
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.peers.common import finish, options

WAYS = ("async", "threads", "blocking")
SENDS = 60
CONNECTIONS = 3
TARGETS = {"health_blocking_over_async": (">=", 5.0), "burst_threads_over_async": (">=", 2.0)}


def aws() -> None:
    """DynamoDB with a user who has three connections, and the management API; prints where they are."""
    from roomcast.store import Store
    from roomcast.store.dynamodb import Tables
    from tests.builders import create_tables, identity
    from tests.fakes.dynamodb import FakeDynamoDB
    from tests.fakes.dynamodb_http import DynamoDBOverHttp
    from tests.fakes.management_api import FakeManagementApi

    fake: Any = FakeDynamoDB()
    create_tables(fake)
    store = Store(Tables(fake, "connections", "rooms"))
    for number in range(CONNECTIONS):
        store.connections.connect(f"c{number}=", identity("u1"))
    with FakeManagementApi() as api, DynamoDBOverHttp(fake) as http:
        http.before = lambda _: time.sleep(0.1)
        print(json.dumps({"AWS_ENDPOINT_URL": http.url, "WEBSOCKET_API_ENDPOINT": api.endpoint}), flush=True)
        sys.stdin.read()


def serve(way: str) -> None:
    """A backend with `/send`, `/health` and `/threads`; prints its address."""
    import uvicorn
    from fastapi import FastAPI

    from roomcast import AsyncWebSocketService, WebSocketService

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        async with AsyncWebSocketService.from_env() as service:
            app.state.service = service
            yield

    app = FastAPI(lifespan=lifespan)
    plain = WebSocketService.from_env()

    async def send() -> int:
        if way == "async":
            return (await app.state.service.send_to_user("u1", "e", {"n": 1})).sent
        if way == "threads":
            return (await asyncio.to_thread(plain.send_to_user, "u1", "e", {"n": 1})).sent
        return plain.send_to_user("u1", "e", {"n": 1}).sent

    @app.post("/burst")
    async def burst() -> int:
        return sum(await asyncio.gather(*(send() for _ in range(SENDS))))

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.get("/threads")
    async def threads() -> int:
        return threading.active_count()

    config = uvicorn.Config(app, port=0, log_level="error", access_log=False)
    server = uvicorn.Server(config)

    async def main() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving

    asyncio.run(main())


@contextmanager
def process(*arguments: str, **environ: str) -> Iterator[str]:
    """One of the roles in a process of its own; what it prints first."""
    child = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environ},
    )
    try:
        assert child.stdout
        yield child.stdout.readline()
    finally:
        child.kill()
        child.wait()


def measure(port: int, bursts: int) -> dict[str, float]:
    """Let the backend send in bursts, and ask for `/health` all the while."""
    took: list[float] = []
    lasted: list[float] = []
    done = threading.Event()

    def ask(method: str, path: str) -> int | str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(method, path)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer  # type: ignore[no-any-return]

    def load() -> None:
        for _ in range(bursts):
            began = time.perf_counter()
            assert ask("POST", "/burst") == SENDS * CONNECTIONS
            lasted.append(time.perf_counter() - began)
        done.set()

    ask("POST", "/burst")  # warm, as a backend is
    loading = threading.Thread(target=load)
    loading.start()
    while not done.is_set():
        began = time.perf_counter()
        ask("GET", "/health")
        took.append(time.perf_counter() - began)
        time.sleep(0.005)
    loading.join()
    return {
        "p50_ms": statistics.median(took) * 1e3,
        "worst_ms": max(took) * 1e3,
        "burst_ms": statistics.median(lasted) * 1e3,
        "threads": int(ask("GET", "/threads")),
    }


def main() -> None:
    """Measure, show, write."""
    chosen = options(__doc__.splitlines()[0])
    bursts = 10 if chosen.quick else 50
    found: dict[str, dict[str, float]] = {}
    environ = {
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nowhere",
        "WEBSOCKET_CONNECTIONS_TABLE": "connections",
        "WEBSOCKET_ROOMS_TABLE": "rooms",
    }
    print("way        /health p50   worst, ms   60 sends, ms   threads")
    with process("--role", "aws") as told:
        environ |= json.loads(told)
        for way in WAYS:
            with process("--role", way, **environ) as port:
                figures = found[way] = measure(int(port), bursts)
            print(
                f"{way:10} {figures['p50_ms']:12.1f} {figures['worst_ms']:11.1f} "
                f"{figures['burst_ms']:14.0f} {figures['threads']:9.0f}",
                flush=True,
            )
    each = {f"{name}_{way}": value for way, figures in found.items() for name, value in figures.items()}
    finish(
        each
        | {
            "health_blocking_over_async": found["blocking"]["worst_ms"] / found["async"]["worst_ms"],
            "health_threads_over_async": found["threads"]["worst_ms"] / found["async"]["worst_ms"],
            "burst_threads_over_async": found["threads"]["burst_ms"] / found["async"]["burst_ms"],
        },
        TARGETS,
        chosen.json,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--role"]:
        aws() if sys.argv[2] == "aws" else serve(sys.argv[2])
    else:
        main()
