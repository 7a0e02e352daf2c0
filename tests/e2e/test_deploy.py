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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from websockets.sync.client import connect

from roomcast import WebSocketService
from roomcast.tokens.authentication import sign_token
from tests.aws_command import parse
from tests.infra.conftest import CERTIFICATE, CONTEXT, ROOT
from tests.integration.test_documented_commands import steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROD = "landinghub-websocket-prod"

SECRET_NAME = "shared/jwt"
OPTIONAL: dict[str, dict[str, Any]] = {
    "domain": {
        "domain_name": "ws.example.com",
        "domain_certificate_arn": CERTIFICATE,
        "domain_path": "v1",
    },
    "shared": {
        "jwt_secret_name": SECRET_NAME,
        "backend_accounts": ["111122223333"],
        "tags": {"cost-centre": "4711"},
        "alarm_email": "ops@example.com",
        "reserved_connects": 5,
    },
    "key": {"customer_key": True, "gateway_logs": True, "gradual_changes": True},
}
"""Stages that have all settings between them that `prod` leaves out."""


@dataclass
class Cloud:
    """A MiniStack, and CDK pointed at it."""

    port: int
    directory: Path
    quotas_port: int

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
            "AWS_ENDPOINT_URL_SERVICE_QUOTAS": f"http://127.0.0.1:{self.quotas_port}",
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
            *("--require-approval", "never", "--import-existing-resources", "--outputs-file", str(outputs)),
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


class Quotas(BaseHTTPRequestHandler):
    """Service Quotas, which MiniStack has not: every quota is 10,000."""

    def do_POST(self) -> None:
        body = json.dumps({"Quota": {"Value": 10_000.0}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture(scope="module")
def quotas() -> Iterator[int]:
    """The port of `Quotas`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Quotas) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, quotas: int) -> Iterator[Cloud]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Cloud(port, tmp_path_factory.mktemp("cloud"), quotas)
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
    """A directory whose cdk.json says more memory for `dev`, and has stages with every optional setting."""
    config = json.loads((ROOT / "cdk.json").read_text())
    stages = config["context"]["stages"]
    zone = cloud.client("route53").create_hosted_zone(Name="example.com", CallerReference="1")["HostedZone"]
    OPTIONAL["domain"]["hosted_zone_id"] = zone["Id"].rpartition("/")[2]
    stages |= {name: stages["dev"] | {"monitoring": True} | changes for name, changes in OPTIONAL.items()}
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
    (values,) = json.loads((ROOT / "cdk.out" / "dev.outputs.json").read_text()).values()
    assert isinstance(values, dict)
    return values


def documented(cloud: Cloud, command: str, *, stdin: str = "", **names: str) -> Any:
    """Run the `aws` command of docs/operations.md or docs/deploying.md that begins so."""
    (step,) = [step for step in steps() if step.startswith(f"aws {command} --")]
    parsed = parse(step, names=names, stdin=stdin)
    return parsed.run(cloud.client(parsed.service))


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
    join_and_send(cloud, dev, "dev", monkeypatch)


def join_and_send(cloud: Cloud, outputs: dict[str, str], stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect, join a room, and get what a backend sends to it."""
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=outputs["JwtSecretName"])[
        "SecretString"
    ]
    token = sign_token(secret, user_id="boss", role="admin")
    place = f"127.0.0.1:{cloud.port}/_aws/execute-api/{api_id(outputs)}/{stage}"
    for key, value in cloud.environ.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    service = WebSocketService.from_env(
        {
            "WEBSOCKET_API_ENDPOINT": f"http://{place}",
            "WEBSOCKET_CONNECTIONS_TABLE": outputs["ConnectionsTableName"],
            "WEBSOCKET_ROOMS": outputs["Rooms"],
            "WEBSOCKET_ROOMS_TABLE": outputs["RoomsTableName"],
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
    """aws.md 9: there is nobody to ask here, and it says how to do without."""
    without_role = cloud.make("deploy", "STAGE=prod")
    assert without_role.returncode != 0
    assert "API Gateway has no role to write logs with" in without_role.stdout  # and nothing was synthesized
    account = cloud.make("deploy-account", "YES=1")  # aws.md 18
    assert account.returncode == 0, account.stderr
    run = cloud.make("deploy", "STAGE=prod")
    assert run.returncode != 0
    assert "landinghub-websocket-prod keeps data, and there is nobody to ask here: add --yes" in run.stderr
    stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
    assert "landinghub-websocket-prod" not in {stack["StackName"] for stack in stacks}


@pytest.fixture(scope="module")
def prod(cloud: Cloud, dev: dict[str, str]) -> dict[str, str]:
    """`prod` as it is shipped, with monitoring, from an assembly that another job has synthesized."""
    if not cloud.client("apigateway").get_account().get("cloudwatchRoleArn"):
        cloud.make("deploy-account", "YES=1")
    synthesized = cloud.make("synth", "STAGE=prod")
    assert synthesized.returncode == 0, synthesized.stderr
    run = cloud.make("deploy-assembly", "STAGE=prod", "YES=1")
    assert run.returncode == 0, run.stdout + run.stderr
    (values,) = json.loads((ROOT / "cdk.out" / "prod.outputs.json").read_text()).values()
    assert isinstance(values, dict)
    return values


def test_prod_is_deployed_as_shipped(cloud: Cloud, prod: dict[str, str]) -> None:
    """aws.md 22: with its alarms, dashboard, topic, versions and aliases."""
    (stack,) = cloud.client("cloudformation").describe_stacks(StackName=PROD)["Stacks"]
    assert (stack["StackStatus"], stack["EnableTerminationProtection"]) == ("CREATE_COMPLETE", True)
    alarms = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert len([alarm for alarm in alarms if alarm["AlarmName"].startswith(PROD)]) == 12
    boards = cloud.client("cloudwatch").list_dashboards()["DashboardEntries"]
    assert [board["DashboardName"] for board in boards] == [f"{PROD}-us-east-1"]
    lambda_ = cloud.client("lambda")
    for name in ("Connect", "Disconnect", "Default", "Fanout"):
        function = f"landinghub-backend-prod-websocket{name}"
        (alias,) = lambda_.list_aliases(FunctionName=function)["Aliases"]
        assert (alias["Name"], alias["FunctionVersion"]) == ("live", "1")
    parameters = cloud.client("ssm").get_parameters_by_path(Path=f"/{PROD}")["Parameters"]
    assert {p["Name"].rpartition("/")[2]: p["Value"] for p in parameters} == prod


def test_prod_lets_in_joins_and_sends_through_its_aliases(
    cloud: Cloud, prod: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    join_and_send(cloud, prod, "prod", monkeypatch)


def test_the_commands_of_the_pages_run(cloud: Cloud, prod: dict[str, str]) -> None:
    """Those that delete something follow below."""
    alarm = next(
        alarm["AlarmName"]
        for alarm in cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
        if "DeadLetters" in alarm["AlarmName"]
    )
    documented(cloud, "cloudwatch set-alarm-state", NAME=alarm)
    (state,) = cloud.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    assert state["StateValue"] == "ALARM"
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=prod["JwtSecretName"])["SecretString"]
    documented(cloud, "secretsmanager put-secret-value", NAME=prod["JwtSecretName"], stdin=secret[::-1])
    found = cloud.client("secretsmanager").get_secret_value(SecretId=prod["JwtSecretName"])
    assert found["SecretString"] == secret[::-1]
    parameters = documented(cloud, "ssm get-parameters-by-path")["Parameters"]
    assert len(parameters) == len(prod)
    assert documented(cloud, "secretsmanager list-secrets")["SecretList"]
    assert documented(cloud, "logs describe-log-groups")["logGroups"]
    assert any("DeadLetters" in url for url in documented(cloud, "sqs list-queues")["QueueUrls"])
    documented(cloud, "dynamodb restore-table-to-point-in-time")
    cloud.client("dynamodb").delete_table(TableName="landinghub-websocket-rooms-prod-restored")


@pytest.mark.parametrize("stage", OPTIONAL)
def test_every_optional_setting_deploys(cloud: Cloud, changed: Path, dev: dict[str, str], stage: str) -> None:
    """aws.md 22."""
    outputs = cloud.deploy(stage, cwd=changed)
    assert outputs["WebSocketAPIUrl"].startswith("wss://")
    if stage == "domain":  # aws.md 4
        assert outputs["WebSocketAPIUrl"] == "wss://ws.example.com/v1"
        assert ".execute-api." in outputs["WebSocketCallbackUrl"]
    if stage == "shared":  # aws.md 21
        assert ":role/" in outputs["BackendRoleArn"]
    cloud.destroy(stage)


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


def test_stages_live_next_to_each_other(cloud: Cloud, dev: dict[str, str], prod: dict[str, str]) -> None:
    assert api_id(dev) != api_id(prod)
    assert cloud.tables() == {
        f"landinghub-websocket-{what}-{stage}"
        for what in ("connections", "history", "rooms")
        for stage in ("dev", "prod")
    }
    assert len(cloud.functions()) == 9


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
    cloud: Cloud, dev: dict[str, str], prod: dict[str, str]
) -> None:
    """aws.md 10: a protected stage is destroyed after its protection was lifted."""
    cloud.destroy("dev")
    assert cloud.tables() == {
        f"landinghub-websocket-{what}-prod" for what in ("connections", "history", "rooms")
    }
    dynamodb = cloud.client("dynamodb")
    row = {"room": {"S": "chat_room_r1"}, "member": {"S": "user#u1"}}
    dynamodb.put_item(TableName=prod["RoomsTableName"], Item=row)
    refused = cloud.make("destroy", "STAGE=prod", "YES=1")
    assert refused.returncode != 0
    assert "TerminationProtection" in refused.stdout + refused.stderr
    documented(cloud, "cloudformation update-termination-protection")
    destroyed = cloud.make("destroy", "STAGE=prod", "YES=1")
    assert destroyed.returncode == 0, destroyed.stderr
    assert cloud.tables() == {
        f"landinghub-websocket-{what}-prod" for what in ("connections", "history", "rooms")
    }
    assert cloud.functions() == set()
    names = [secret["Name"] for secret in cloud.client("secretsmanager").list_secrets()["SecretList"]]
    assert [name.startswith(PROD) for name in names] == [True]
    queues = cloud.client("sqs").list_queues()["QueueUrls"]
    assert [PROD in url and "DeadLetters" in url for url in queues] == [True]
    groups = [group["logGroupName"] for group in cloud.client("logs").describe_log_groups()["logGroups"]]
    assert groups
    assert all(PROD in group for group in groups)


def test_a_destroyed_stage_is_deployed_again_over_what_it_kept(cloud: Cloud, prod: dict[str, str]) -> None:
    """aws.md 2 and 11: the tables are adopted with their rows. It follows the test above."""
    again = cloud.make("deploy-assembly", "STAGE=prod", "YES=1")
    assert again.returncode == 0, again.stdout + again.stderr
    item = cloud.client("dynamodb").get_item(
        TableName=prod["RoomsTableName"], Key={"room": {"S": "chat_room_r1"}, "member": {"S": "user#u1"}}
    )
    assert item["Item"]["member"] == {"S": "user#u1"}
    (stack,) = cloud.client("cloudformation").describe_stacks(StackName=PROD)["Stacks"]
    assert stack["EnableTerminationProtection"]


def test_what_is_left_can_be_deleted_by_hand(cloud: Cloud, prod: dict[str, str]) -> None:
    """aws.md 2: the commands of the page on recovery, in its order."""
    documented(cloud, "cloudformation update-termination-protection")
    documented(cloud, "cloudformation delete-stack")
    for _ in range(100):
        if not cloud.functions():
            break
        time.sleep(0.1)
    rooms = prod["RoomsTableName"]
    with pytest.raises(ClientError, match="eletion protection"):
        documented(cloud, "dynamodb delete-table")
    documented(cloud, "dynamodb update-table")
    documented(cloud, "dynamodb delete-table")
    assert rooms not in cloud.tables()
