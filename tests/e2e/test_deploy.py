"""Stages deployed by the real CDK command into MiniStack: what is made runs, is changed in place, and goes.

MiniStack's own WebSocket API is enough to show that the deployed functions run with what the stack gives
them. It is told nothing of this machine's AWS settings, and neither is CDK.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from websockets.sync.client import connect

from roomcast import WebSocketService
from roomcast.tokens.authentication import sign_token
from tests.infra.conftest import CONTEXT, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DEV, KEPT = "landinghub-websocket-dev", "landinghub-websocket-kept"


@dataclass
class Cloud:
    """A MiniStack, and CDK pointed at it."""

    port: int
    directory: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """Of every process here: this machine's AWS settings and CDK's account cache would mislead."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "CI": "true",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
        }

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        return session.client(service, endpoint_url=self.url)

    def cdk(self, *arguments: str, cwd: Path = ROOT) -> str:
        """Run the CDK command that package.json pins, and return what it printed."""
        program = ROOT / "node_modules" / ".bin" / "cdk"
        run = subprocess.run(
            [program, *arguments],
            cwd=cwd,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"cdk {' '.join(arguments)}\n{run.stdout}\n{run.stderr}"
        return run.stdout + run.stderr

    def deploy(self, stage: str, *, cwd: Path = ROOT) -> dict[str, str]:
        """Deploy a stage and return the stack's outputs. The assembly stays, to be used again."""
        outputs = self.directory / f"{stage}.json"
        self.cdk(
            *("deploy", "-c", f"stage={stage}", "--output", str(self.assembly(stage))),
            *("--require-approval", "never", "--outputs-file", str(outputs)),
            cwd=cwd,
        )
        (values,) = json.loads(outputs.read_text()).values()
        assert isinstance(values, dict)
        return values

    @property
    def env_file(self) -> Path:
        return self.directory / "backend.env"

    def make(self, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
        """Run make as a person does, with one answer at hand. What `make setup` does has been done."""
        return subprocess.run(
            ["make", "-o", "setup", *arguments, f"BACKEND_ENV={self.env_file}"],
            cwd=ROOT,
            env=self.environ,
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )

    def assembly(self, stage: str) -> Path:
        return self.directory / f"{stage}.out"

    def destroy(self, stage: str) -> None:
        self.cdk("destroy", "--all", "--force", "--app", str(self.assembly(stage)))

    def tables(self) -> set[str]:
        return set(self.client("dynamodb").list_tables()["TableNames"])

    def functions(self) -> set[str]:
        return {f["FunctionName"] for f in self.client("lambda").list_functions()["Functions"]}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Cloud(port, tmp_path_factory.mktemp("cloud"))
    with (here.directory / "ministack.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.ministack_cloud"],
            cwd=ROOT,
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(here.directory),
                "GATEWAY_PORT": str(port),
                "BIND_HOST": "127.0.0.1",
            },
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (here.directory / "ministack.log").read_text()
            time.sleep(0.1)
        here.env_file.write_text("MINE=1\n")
        here.cdk("bootstrap", "aws://000000000000/us-east-1", "-c", "stage=dev")
        yield here
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def changed(cloud: Cloud) -> Path:
    """A directory whose cdk.json says more memory for `dev`, and has a stage that keeps its data."""
    config = json.loads((ROOT / "cdk.json").read_text())
    stages = config["context"]["stages"]
    stages["kept"] = stages["dev"] | {"keep_data": True}
    stages["dev"] = stages["dev"] | {"memory_mb": 512, "throttle_rate": 300}
    directory = cloud.directory / "changed"
    directory.mkdir()
    (directory / "cdk.json").write_text(json.dumps(config | {"app": f"{sys.executable} {ROOT / 'app.py'}"}))
    return directory


@pytest.fixture(scope="module")
def dev(cloud: Cloud) -> dict[str, str]:
    """What the README says: `make deploy STAGE=dev`."""
    run = cloud.make("deploy", "STAGE=dev")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "AWS::DynamoDB::Table" in run.stdout + run.stderr  # it shows the diff
    (values,) = json.loads((ROOT / "cdk.out" / "outputs.json").read_text()).values()
    assert isinstance(values, dict)
    return values


@pytest.fixture(scope="module")
def kept(cloud: Cloud, changed: Path, dev: dict[str, str]) -> dict[str, str]:
    """A second stage next to the first."""
    return cloud.deploy("kept", cwd=changed)


def api_id(outputs: dict[str, str]) -> str:
    return outputs["WebSocketAPIUrl"].removeprefix("wss://").partition(".")[0]


def test_the_env_file_is_filled(cloud: Cloud, dev: dict[str, str]) -> None:
    lines = cloud.env_file.read_text().splitlines()
    assert lines[0] == "MINE=1"
    assert f"WEBSOCKET_API_ENDPOINT={dev['WebSocketAPIUrl']}" in lines
    assert f"WEBSOCKET_FANOUT_QUEUE_URL={dev['FanOutQueueUrl']}" in lines
    assert f"REACT_APP_WEBSOCKET_URL={dev['WebSocketAPIUrl']}" in lines


def test_the_deployed_functions_let_in_join_and_send(
    cloud: Cloud, dev: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=dev["JwtSecretName"])["SecretString"]
    token = sign_token(secret, user_id="boss", role="admin")
    place = f"127.0.0.1:{cloud.port}/_aws/execute-api/{api_id(dev)}/dev"
    for key, value in cloud.environ.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    service = WebSocketService.from_env(
        {
            "WEBSOCKET_API_ENDPOINT": f"http://{place}",
            "WEBSOCKET_CONNECTIONS_TABLE": dev["ConnectionsTableName"],
            "WEBSOCKET_ROOMS_TABLE": dev["RoomsTableName"],
        }
    )
    with connect(f"ws://{place}?token={token}", open_timeout=30) as browser:
        browser.send(json.dumps({"action": "dashboard:join", "id": "1"}))
        joined = json.loads(browser.recv(timeout=30))
        assert (joined["event"], joined["replyTo"]) == ("dashboard:joined", "1")
        report = service.send_to_room("dashboard_admin", "dashboard:update", {"orderId": "123"})
        assert (report.sent, report.gone, report.failed) == (1, 0, 0)
        update = json.loads(browser.recv(timeout=30))
        assert (update["event"], update["data"]) == ("dashboard:update", {"orderId": "123"})
    service.close()


def test_prod_is_not_touched_before_somebody_says_so(cloud: Cloud) -> None:
    run = cloud.make("deploy", "STAGE=prod", answer="n\n")
    assert run.returncode != 0
    assert "Deploy this to prod? [y/N]" in run.stdout
    stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
    assert "landinghub-websocket-prod" not in {stack["StackName"] for stack in stacks}


def test_the_logs_of_a_stage_can_be_read(cloud: Cloud, dev: dict[str, str]) -> None:
    assert dev
    run = subprocess.run(
        [Path(sys.executable).with_name("roomcast"), "logs", "--stage", "dev"],
        cwd=ROOT,
        env=cloud.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_stages_stand_beside_each_other(cloud: Cloud, dev: dict[str, str], kept: dict[str, str]) -> None:
    assert api_id(dev) != api_id(kept)
    assert cloud.tables() == {
        f"landinghub-websocket-{what}-{stage}"
        for what in ("connections", "rooms")
        for stage in ("dev", "kept")
    }
    assert len(cloud.functions()) == 8


def test_a_change_is_deployed_in_place_and_the_tables_keep_their_rows(
    cloud: Cloud, changed: Path, dev: dict[str, str]
) -> None:
    dynamodb = cloud.client("dynamodb")
    row = {"connectionId": {"S": "c1="}, "userId": {"S": "u1"}}
    dynamodb.put_item(TableName=dev["ConnectionsTableName"], Item=row)
    name = "landinghub-backend-dev-websocketConnect"
    before = cloud.client("lambda").get_function_configuration(FunctionName=name)["MemorySize"]

    again = cloud.deploy("dev", cwd=changed)

    assert again == dev  # the URL that browsers know, the names, the secret
    after = cloud.client("lambda").get_function_configuration(FunctionName=name)["MemorySize"]
    assert (before, after) == (CONTEXT["stages"]["dev"]["memory_mb"], 512)
    key = {"connectionId": {"S": "c1="}}
    assert dynamodb.get_item(TableName=dev["ConnectionsTableName"], Key=key)["Item"] == row
    printed = cloud.cdk("diff", "--fail", "--app", str(cloud.assembly("dev")))
    assert "There were no differences" in printed


def test_destroying_a_stage_leaves_what_it_keeps_and_nothing_else(
    cloud: Cloud, dev: dict[str, str], kept: dict[str, str]
) -> None:
    cloud.destroy("dev")
    assert cloud.tables() == {"landinghub-websocket-connections-kept", "landinghub-websocket-rooms-kept"}
    cloudformation = cloud.client("cloudformation")
    assert cloudformation.describe_stacks(StackName=KEPT)["Stacks"][0]["EnableTerminationProtection"]
    cloudformation.update_termination_protection(StackName=KEPT, EnableTerminationProtection=False)
    cloud.destroy("kept")
    assert cloud.tables() == {"landinghub-websocket-connections-kept", "landinghub-websocket-rooms-kept"}
    assert cloud.functions() == set()
    names = [secret["Name"] for secret in cloud.client("secretsmanager").list_secrets()["SecretList"]]
    assert [name.startswith(KEPT) for name in names] == [True]
    queues = cloud.client("sqs").list_queues()["QueueUrls"]
    assert [KEPT in url and "DeadLetters" in url for url in queues] == [True]
    groups = [group["logGroupName"] for group in cloud.client("logs").describe_log_groups()["logGroups"]]
    assert groups
    assert all(KEPT in group for group in groups)
