"""How fast the local gateway is beside what people use today, measured in turn on this machine.

    python bench/local_gateway.py [--quick] [--json FILE] [--only NAME ...] [--soak SECONDS]

One load client (below) drives each peer over the same WebSocket actions with the same tokens: connects,
pings, sends to a room. Each keeps its real hops: processes for the functions, HTTP for the management API,
a database (the same MiniStack for all but Socket.IO, which has none and stands here for context only).

Peers are installed into `build/bench-peers/`, versions pinned in `bench/peers/*/package.json`.
Memory is PSS of the process tree (pages that forked processes share count once): ours with MiniStack in it,
serverless-offline without.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import boto3
import jwt
import uvloop
from botocore.config import Config
from dotenv import dotenv_values

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
BUILD = ROOT / "build" / "bench-peers"
SECRET = "a-bench-secret-of-more-than-thirty-two-bytes"
TABLE = "landinghub-websocket-connections-bench"
AT_A_TIME = 10
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def token(user: str) -> str:
    now = int(time.time())
    claims = {"userId": user, "role": "admin", "iat": now, "exp": now + 3600}
    return jwt.encode(claims, SECRET, algorithm="HS256")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Client(asyncio.Protocol):
    """As little of a WebSocket client as the load needs, so that the load costs little itself."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiter: asyncio.Future[bytes] | None = None
        self.received: list[bytes] = []
        self.on_message: Callable[[bytes], None] | None = None

    @classmethod
    async def open(cls, url: str) -> Client:
        """Connect; raises ConnectionError with the status if it is refused."""
        host_port, _, path = url.removeprefix("ws://").partition("/")
        host, _, port = host_port.partition(":")
        _, client = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        assert client.transport is not None
        client.transport.write(
            f"GET /{path} HTTP/1.1\r\nHost: {host_port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        try:
            await asyncio.wait_for(client.upgraded, 30)
        except BaseException:
            client.transport.abort()
            raise
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        lost = ConnectionError("connection lost")
        if not self.upgraded.done():
            self.upgraded.set_exception(lost)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(lost)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.upgraded.done():
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.upgraded.set_exception(ConnectionError(head.split(b"\r\n", 1)[0].decode()))
                return
            self.buffer = rest
            self.upgraded.set_result(None)
        while len(self.buffer) >= 2:
            size, start = self.buffer[1] & 0x7F, 2
            if size == 126:
                size, start = struct.unpack_from("!H", self.buffer, 2)[0], 4
            elif size == 127:
                size, start = struct.unpack_from("!Q", self.buffer, 2)[0], 10
            if len(self.buffer) < start + size:
                return
            opcode, payload = self.buffer[0] & 0x0F, self.buffer[start : start + size]
            self.buffer = self.buffer[start + size :]
            if opcode == 1:
                self.message(payload)
            elif opcode == 9:
                self.frame(0xA, payload)

    def message(self, payload: bytes) -> None:
        if self.on_message is not None:
            self.on_message(payload)
        elif self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(payload)
        else:
            self.received.append(payload)

    def frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        head = (
            bytes([0x80 | opcode, 0x80 | size])
            if size < 126
            else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
        )
        if self.transport is not None:
            self.transport.write(head + b"\0\0\0\0" + payload)  # a mask of zeros leaves the payload as it is

    def send(self, payload: bytes) -> None:
        self.frame(1, payload)

    async def receive(self) -> bytes:
        if self.received:
            return self.received.pop(0)
        self.waiter = asyncio.get_running_loop().create_future()
        return await asyncio.wait_for(self.waiter, 30)

    def close(self) -> None:
        self.frame(8, b"\x03\xe8")
        if self.transport is not None:
            self.transport.close()


class Peer(ABC):
    """One thing to measure: how to start it, and what its clients say."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.counted: list[subprocess.Popen[bytes]] = []
        """Those whose memory is counted."""

    def spawn(
        self,
        command: list[str],
        *,
        counted: bool = True,
        cwd: Path = ROOT,
        pipe: bool = False,
        pass_fds: Sequence[int] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{self.name}.log").open("ab")
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **CREDENTIALS, **environment},
            stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self.processes.append(process)
        if counted:
            self.counted.append(process)
        return process

    async def prepare(self) -> None:  # noqa: B027 most need nothing
        """What does not count as starting: installation, a database beside it."""

    @abstractmethod
    async def start(self) -> None:
        """Spawn it; it need not take connections yet."""

    @abstractmethod
    def url(self, user: str) -> str: ...

    async def ready(self, client: Client) -> None:  # noqa: B027
        """What a client does after the handshake."""

    def ping(self) -> bytes:
        return b'{"action":"ping"}'

    def join(self, room: str) -> bytes:
        return json.dumps({"action": "chat:join_room", "roomId": room}).encode()

    async def begin_sends(self) -> None:  # noqa: B027
        """Start what sends to rooms: a backend that runs already when the clock starts."""

    async def send_to_room(self, room: str) -> None:
        """Have the backend send one event to the room."""
        raise NotImplementedError

    def memory_mb(self) -> float:
        return sum(pss(pid) for process in self.counted for pid in tree(process.pid)) / 1024

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Ours(Peer):
    name = "ours"

    async def prepare(self) -> None:
        self.port = free_port()
        self.env_file = self.folder / "ours.env"
        self.env_file.write_text(f"JWT_SECRET={SECRET}\n")

    async def start(self) -> None:
        program = "from roomcast_dev.cli.main import main; main()"
        options = ["--port", str(self.port), "--env-file", str(self.env_file)]
        self.spawn([sys.executable, "-c", program, "dev", *options])

    def url(self, user: str) -> str:
        return f"ws://127.0.0.1:{self.port}/local?token={token(user)}"

    async def begin_sends(self) -> None:
        settings = {k: v for k, v in dotenv_values(self.env_file).items() if v}
        program = (
            "import sys\nfrom roomcast import WebSocketService\ns = WebSocketService.from_env()\n"
            "for line in sys.stdin:\n"
            "    print(s.send_to_room(line.strip(), 'update', {'room': line.strip()}), flush=True)\n"
        )
        self.sender = self.spawn([sys.executable, "-c", program], counted=False, pipe=True, **settings)

    async def send_to_room(self, room: str) -> None:
        await send_line(self.sender, f"chat_room_{room}")


class SameJob(Peer):
    """Our gateway with LandingHub's handlers, line for line in Python: the same job as serverless-offline.

    Our own handlers do more for each message (a rate limit and a revocation check, both in the table), so
    `ours` shows the product, and this the gateway.
    """

    name = "ours, same handlers"
    program = """
import asyncio, signal, sys, uvloop
from pathlib import Path
from roomcast_dev.local.console import Console
from roomcast_dev.local.stack import LocalRun, Project, running

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    project = Project(Path(sys.argv[1]), context={"secret": sys.argv[3]})
    async with running(LocalRun(project, port=int(sys.argv[2]), console=Console())) as stack:
        print("env", stack.ministack.url, stack.outputs["Table"], flush=True)
        await stop.wait()

uvloop.run(main())
"""

    async def prepare(self) -> None:
        self.port = free_port()

    async def start(self) -> None:
        project = ROOT / "bench" / "peers" / "samejob"
        self.spawn([sys.executable, "-c", self.program, str(project), str(self.port), SECRET], cwd=ROOT)

    def url(self, user: str) -> str:
        return f"ws://127.0.0.1:{self.port}/local?token={token(user)}"


class LandingHub(Peer):
    """LandingHub as its users run it: the answers to actions are posted, as its handlers do."""

    name = "serverless-offline"
    reply = "post"

    async def prepare(self) -> None:
        self.modules = install("landinghub")
        self.websocket_port, self.database = free_port(), await database(self, TABLE)
        self.settings = {
            "JWT_SECRET": SECRET,
            "WEBSOCKET_CONNECTIONS_TABLE": TABLE,
            "DYNAMODB_ENDPOINT": self.database,
            "WEBSOCKET_PORT": str(self.websocket_port),
            "CALLBACK_URL": f"http://localhost:{self.websocket_port}",
            "REPLY": self.reply,
            "HTTP_PORT": str(free_port()),
            "LAMBDA_PORT": str(free_port()),
            "SLS_NOTIFICATIONS_MODE": "off",
            "SLS_TELEMETRY_DISABLED": "1",
            "SLS_DEPRECATION_DISABLE": "*",
        }

    async def start(self) -> None:
        cli = self.modules / "node_modules" / "serverless" / "bin" / "serverless.js"
        self.spawn(["node", str(cli), "offline", "start"], cwd=self.modules, **self.settings)

    def url(self, user: str) -> str:
        return f"ws://localhost:{self.websocket_port}/?token={token(user)}"

    async def begin_sends(self) -> None:
        command = ["node", "send.js"]
        self.sender = self.spawn(command, cwd=self.modules, counted=False, pipe=True, **self.settings)

    async def send_to_room(self, room: str) -> None:
        await send_line(self.sender, f"chat_room_{room}")


class LandingHubReturning(LandingHub):
    """The same with the answers returned over a route response, as ours: what its gateway alone can do."""

    name = "serverless-offline, returned"
    reply = "return"


class MiniStackAlone(Peer):
    """MiniStack's own WebSocket API and Lambda, with our handlers (each prints: a silent one waits 50 ms)."""

    name = "MiniStack"
    stage = "bench"

    async def prepare(self) -> None:
        pass

    async def start(self) -> None:
        self.base = await database(self, None, counted=True)
        await asyncio.to_thread(self.deploy)

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        return session.client(
            service, endpoint_url=self.base, config=Config(retries={"total_max_attempts": 1})
        )

    def deploy(self) -> None:
        """The stack of the synthesized template, by hand: MiniStack takes no CDK assets."""
        from roomcast_dev.local.template.reader import load

        template = load(next(path for path in (ROOT / "build" / "local").iterdir() if path.is_dir()))
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(StackName="bench", TemplateBody=json.dumps(template.emulated))
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName="bench", WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
        )
        stack = cloudformation.describe_stacks(StackName="bench")["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        functions, gateway = self.client("lambda"), self.client("apigatewayv2")
        api = gateway.create_api(
            Name="bench", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action"
        )["ApiId"]
        self.settings = {
            "WEBSOCKET_API_ENDPOINT": f"{self.base}/_aws/execute-api/{api}/{self.stage}",
            "JWT_SECRET": SECRET,
            "AWS_ENDPOINT_URL": self.base,
            **CREDENTIALS,
        }
        code = handlers_zip()
        for key, route in template.routes.items():
            function = template.functions[str(route.target)]
            environment = {
                k: template.value(v, outputs, local_url="x") for k, v in function.environment.items()
            }
            for name in ("WEBSOCKET_CONNECTIONS_TABLE", "WEBSOCKET_ROOMS_TABLE"):
                self.settings[name] = environment[name]
            arn = functions.create_function(
                FunctionName=function.name,
                Runtime="python3.11",
                Role="arn:aws:iam::000000000000:role/bench",
                Handler=f"printing.{function.handler.split('.')[0]}",
                Code={"ZipFile": code},
                Timeout=10,
                Environment={
                    "Variables": {**environment, "JWT_SECRET": SECRET, "AWS_ENDPOINT_URL": self.base}
                },
            )["FunctionArn"]
            uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"
            integration = gateway.create_integration(
                ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=uri
            )
            made = gateway.create_route(
                ApiId=api,
                RouteKey=key,
                Target=f"integrations/{integration['IntegrationId']}",
                RouteResponseSelectionExpression="$default",
            )
            gateway.create_route_response(ApiId=api, RouteId=made["RouteId"], RouteResponseKey="$default")
        gateway.create_stage(ApiId=api, StageName=self.stage, AutoDeploy=True)
        self.path = f"_aws/execute-api/{api}/{self.stage}"

    def url(self, user: str) -> str:
        return f"ws://{self.base.removeprefix('http://')}/{self.path}?token={token(user)}"

    async def begin_sends(self) -> None:
        program = (
            "import sys\nfrom roomcast import WebSocketService\ns = WebSocketService.from_env()\n"
            "for line in sys.stdin:\n"
            "    print(s.send_to_room(line.strip(), 'update', {'room': line.strip()}), flush=True)\n"
        )
        self.sender = self.spawn([sys.executable, "-c", program], counted=False, pipe=True, **self.settings)

    async def send_to_room(self, room: str) -> None:
        await send_line(self.sender, f"chat_room_{room}")


class SocketIO(Peer):
    name = "Socket.IO"

    async def prepare(self) -> None:
        self.modules, self.port = install("socketio"), free_port()

    async def start(self) -> None:
        self.sender = self.spawn(
            ["node", "server.js"], cwd=self.modules, pipe=True, PORT=str(self.port), JWT_SECRET=SECRET
        )

    def url(self, user: str) -> str:
        return f"ws://127.0.0.1:{self.port}/socket.io/?EIO=4&transport=websocket&token={token(user)}"

    async def ready(self, client: Client) -> None:
        await client.receive()  # the engine's "open"
        client.send(b"40")
        await client.receive()

    def ping(self) -> bytes:
        return b'42["ping"]'

    def join(self, room: str) -> bytes:
        return b"42" + json.dumps(["chat:join_room", {"roomId": room}]).encode()

    async def send_to_room(self, room: str) -> None:
        await send_line(self.sender, f"chat_room_{room}")


# What peers need


def install(peer: str) -> Path:
    """Install a Node peer, once for a set of versions."""
    source, target = ROOT / "bench" / "peers" / peer, BUILD / peer
    stamp = target / "installed.json"
    wanted = (source / "package.json").read_text()
    shutil.copytree(source, target, dirs_exist_ok=True)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer} into {target} ...", flush=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(command, cwd=target, check=True)
        stamp.write_text(wanted)
    return target


async def database(peer: Peer, table: str | None, *, counted: bool = False) -> str:
    """Start a MiniStack beside a peer, with LandingHub's table if asked for; returns its URL."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    settings = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
    if table is None:  # MiniStack as it comes
        sock.close()
        program = "import ministack.app, sys; sys.argv[1:] = []; ministack.app.main()"
        process = peer.spawn([sys.executable, "-c", program], counted=counted, **settings)
    else:  # the very database that stands behind our gateway
        sock.listen(1024)
        command = [sys.executable, "-m", "roomcast_dev.local.ministack.server", str(sock.fileno())]
        process = peer.spawn(command, counted=counted, pipe=True, pass_fds=[sock.fileno()], **settings)
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        sock.close()
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("MiniStack did not start")
        await asyncio.sleep(0.01)
    if table is not None:
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        dynamodb = session.client("dynamodb", endpoint_url=url)
        dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "connectionId", "KeyType": "HASH"}],
            AttributeDefinitions=[
                {"AttributeName": "connectionId", "AttributeType": "S"},
                {"AttributeName": "userId", "AttributeType": "S"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "UserIdIndex",
                    "KeySchema": [{"AttributeName": "userId", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
    return url


def handlers_zip() -> bytes:
    """Our handlers as one zip, each behind a function that prints a line."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for folder, prefix in ((ROOT / "lambdas", ""), (ROOT / "roomcast", "roomcast/")):
            for file in sorted(folder.glob("*.py")):
                if file.name != "__init__.py" or prefix:
                    archive.write(file, prefix + file.name)
        package = Path(jwt.__file__).parent
        for file in sorted(package.glob("*.py")):
            archive.write(file, f"jwt/{file.name}")
        names = ("connect", "disconnect", "default")
        archive.writestr(
            "printing.py",
            "".join(f"import {name} as _{name}\n" for name in names)
            + "".join(
                f"def {n}(event, context):\n    print('{n}')\n    return _{n}.handler(event, context)\n"
                for n in names
            ),
        )
    return buffer.getvalue()


async def send_line(process: subprocess.Popen[bytes], line: str) -> None:
    """Write a line to a sender, and do not wait: the clock runs until the last client has the event."""
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def pss(pid: int) -> int:
    """Kilobytes of a process, shared pages divided by their sharers."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


# Measures


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
    """Round trips in a closed loop with so many in flight, going round all clients.

    (Our handlers take 20 actions a second from one connection, so one alone would be held back.)
    """
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def loop(mine: list[Client]) -> None:
        for client in itertools.cycle(mine):
            if (sent := time.perf_counter()) > end:
                break
            client.send(peer.ping())
            answer = await client.receive()
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
        answers = await asyncio.gather(*(client.receive() for client in part))
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


# Report


def report(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Print medians and spread, and the ratios beside serverless-offline; returns what `--json` writes."""
    keys = [
        ("connects_200", "connects/s, 200"),
        ("connects_1000", "connects/s, 1,000"),
        ("ping_1_p50_ms", "ping, 1 client, p50 ms"),
        ("ping_1_p99_ms", "ping, 1 client, p99 ms"),
        ("ping_10_p50_ms", "ping, 10 clients, p50 ms"),
        ("ping_10_p99_ms", "ping, 10 clients, p99 ms"),
        ("round_trips", "best round trips/s"),
        ("fanout_100_ms", "room send to 100, ms"),
        ("fanout_1000_ms", "room send to 1,000, ms"),
        ("lost", "messages lost in these sends"),
        ("start_s", "start to first connect, s"),
        ("memory_before_mb", "memory at start, MB"),
        ("memory_1000_mb", "memory, 1,000 connections, MB"),
        ("memory_after_mb", "memory at the end, MB"),
    ]
    names = list(results)
    medians: dict[str, dict[str, float]] = {name: {} for name in names}
    print(f"\n{'':32}" + "".join(f"{name:>31}" for name in names))
    for key, label in keys:
        cells = []
        for name in names:
            values = sorted(run[key] for run in results[name] if key in run)
            if values:
                medians[name][key] = statistics.median(values)
                spread = f" ({values[0]:.4g}..{values[-1]:.4g})" if len(values) > 1 else ""
                cells.append(f"{medians[name][key]:.4g}{spread}")
            else:
                cells.append("-")
        print(f"{label:32}" + "".join(f"{cell:>31}" for cell in cells))
    summary: dict[str, Any] = {"peers": medians, "python": platform.python_version(), "cores": os.cpu_count()}
    ours, theirs, gateway = (medians.get(peer.name) for peer in (Ours, LandingHub, SameJob))
    if ours:
        summary["memory_mb"] = ours["memory_1000_mb"]
    if ours and theirs and gateway:
        summary |= {
            "connects_ratio": min(gateway[key] / theirs[key] for key in ("connects_200", "connects_1000")),
            "round_trips_ratio": gateway["round_trips"] / theirs["round_trips"],
            "fanout_100_ratio": theirs["fanout_100_ms"] / ours["fanout_100_ms"],
            "fanout_1000_ratio": theirs["fanout_1000_ms"] / ours["fanout_1000_ms"],
            "start_ratio": theirs["start_s"] / ours["start_s"],
            # Our own handlers do more for each event than the peer's: one transaction a connect, one update
            # a message (revocation, rate limit).
            "connects_product_ratio": min(
                ours[key] / theirs[key] for key in ("connects_200", "connects_1000")
            ),
            "round_trips_product_ratio": ours["round_trips"] / theirs["round_trips"],
        }
        if returned := medians.get(LandingHubReturning.name):
            summary["round_trips_returned_ratio"] = gateway["round_trips"] / returned["round_trips"]
        print(
            "\nBeside serverless-offline (higher is better; to reach: connects 2, the next three 3, start 1):"
        )
        for key, value in summary.items():
            if key.endswith("_ratio"):
                print(f"  {key:28} {value:.2f}")
        print(f"  memory_mb {summary['memory_mb']:.0f} (to reach: under 400)")
    return summary


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
