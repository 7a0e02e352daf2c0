"""The peers: Roomcast twice, serverless-offline twice, MiniStack, Socket.IO."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3
import jwt
from botocore.config import Config
from dotenv import dotenv_values

from bench.local.client import Client
from bench.local.peer import CREDENTIALS, Peer
from tests.support.packages import ROOT

BUILD = ROOT / "build" / "bench-peers"
SECRET = "a-bench-secret-of-more-than-thirty-two-bytes"
TABLE = "landinghub-websocket-connections-bench"


def token(user: str, secret: str = SECRET) -> str:
    now = int(time.time())
    claims = {"userId": user, "role": "admin", "iat": now, "exp": now + 3600}
    return jwt.encode(claims, secret, algorithm="HS256")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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
    """The same with replies over a route response, as ours: what its gateway by itself can do."""

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
    """Start a MiniStack next to a peer, with LandingHub's table if asked for; returns its URL."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    settings = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
    if table is None:  # MiniStack as it comes
        sock.close()
        program = "import ministack.app, sys; sys.argv[1:] = []; ministack.app.main()"
        process = peer.spawn([sys.executable, "-c", program], counted=counted, **settings)
    else:  # the same database as behind our gateway
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
            for file in sorted(folder.rglob("*.py")):
                if file.name != "__init__.py" or prefix:
                    archive.write(file, prefix + str(file.relative_to(folder)))
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
