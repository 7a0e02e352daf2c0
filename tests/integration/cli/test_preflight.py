"""`roomcast preflight`, against moto and, for what moto does not have, a scripted account."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import botocore.session
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from roomcast_dev import quotas
from roomcast_dev.cli import preflight_checks
from tests.infra.conftest import CONTEXT
from tests.unit.cli.conftest import Roomcast

ACCOUNT, REGION = "123456789012", "eu-central-1"
PROD = CONTEXT["stages"]["prod"] | {
    "account": ACCOUNT,
    "region": REGION,
    "allowed_origins": ["https://www.acme.test"],
    "alarm_email": "ops@acme.test",
}
STACK = "landinghub-websocket-prod"


def error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"{operation} says {code}"}}, operation)


class Account:
    """What moto does not play: quotas, API Gateway's role, and a stack's state.

    Attributes:
        concurrency: Lambda's limit.
        requests: API Gateway's quota as Service Quotas shows it; None where it is not listed.
        role: API Gateway's role for logs.
        status: of the stage's stack; None where there is none.
        denied: operations that the credentials may not call.
        fails: an error of the operation instead.
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        self.concurrency = 1000
        self.requests: float | None = 10_000.0
        self.role: str | None = "arn:aws:iam::123456789012:role/logs"
        self.status: str | None = None
        self.denied: set[str] = set()
        self.fails: dict[str, Exception] = {}
        self.regions: set[str] = set()

    # As much of botocore's session as the command asks

    def get_credentials(self) -> Any:
        return self.session.get_credentials()

    def create_client(self, service: str, region_name: str, config: object) -> Any:
        self.regions.add(region_name)
        return _Client(self, self.session.create_client(service, region_name=region_name))

    # What is played

    def get_account_settings(self) -> Any:
        return {"AccountLimit": {"ConcurrentExecutions": self.concurrency}}

    def get_service_quota(self, ServiceCode: str, QuotaCode: str) -> Any:  # noqa: N803  boto3's names
        assert (ServiceCode, QuotaCode) == ("apigateway", "L-8A5B8E43")
        if self.requests is None:
            raise error("NoSuchResourceException", "GetServiceQuota")
        return {"Quota": {"Value": self.requests}}

    def get_account(self) -> Any:
        return {"cloudwatchRoleArn": self.role} if self.role else {}

    def describe_stacks(self, StackName: str) -> Any:  # noqa: N803
        if self.status is None:
            raise error("ValidationError", "DescribeStacks")
        return {"Stacks": [{"StackId": f"arn:{StackName}", "StackStatus": self.status}]}


class _Client:
    def __init__(self, account: Account, real: Any) -> None:
        self._account = account
        self._real = real

    def __getattr__(self, operation: str) -> Any:
        if operation in self._account.denied:
            return lambda **_: _raise(error("AccessDeniedException", operation))
        if operation in self._account.fails:
            return lambda **_: _raise(self._account.fails[operation])
        played = getattr(Account, operation, None)
        return getattr(self._account if played else self._real, operation)


def _raise(problem: Exception) -> NoReturn:
    raise problem


@pytest.fixture
def account(aws: botocore.session.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account in which `prod` can be deployed."""
    played = Account(aws)
    monkeypatch.setattr("roomcast_dev.cli.preflight._session", lambda: played)
    ssm: Any = aws.create_client("ssm", region_name=REGION)
    name = "/cdk-bootstrap/hnb659fds/version"
    ssm.put_parameter(Name=name, Value="31", Type="String", Overwrite=True)
    yield played
    ssm.delete_parameters(Names=[name, f"/{STACK}/WebSocketAPIUrl"])


def configure(context: dict[str, Any] | None = None, **settings: Any) -> None:
    """Write the cdk.json of this directory: `prod` with these settings changed."""
    stages = {"prod": PROD | settings, "dev": CONTEXT["stages"]["dev"]}
    Path("cdk.json").write_text(json.dumps({"context": {"stages": stages, **(context or {})}}))


def lines(roomcast: Roomcast, stage: str = "prod") -> tuple[int, list[str]]:
    answer = roomcast("preflight", "--stage", stage)
    assert answer.err == ""
    return answer.code, answer.out.splitlines()


def test_where_nothing_is_in_the_way_it_says_so(roomcast: Roomcast, account: Account) -> None:
    configure()
    sound = f"prod: nothing is in the way in account {ACCOUNT}, region {REGION}"
    assert lines(roomcast) == (0, [sound])
    assert account.regions == {REGION}  # whatever the shell says


def test_the_stage_without_settings_of_its_own_takes_the_shells_region(
    roomcast: Roomcast, account: Account
) -> None:
    configure()
    code, found = lines(roomcast, "dev")
    assert (code, account.regions) == (1, {"us-east-1"})
    assert found == [
        f"stop  account {ACCOUNT}, region us-east-1 is not bootstrapped for CDK:"
        f" `npx cdk bootstrap aws://{ACCOUNT}/us-east-1 -c stage=dev`"
    ]


def test_an_old_bootstrap_stack(roomcast: Roomcast, account: Account, aws: botocore.session.Session) -> None:
    configure({"@aws-cdk/core:bootstrapQualifier": "acme"})
    ssm: Any = aws.create_client("ssm", region_name=REGION)
    ssm.put_parameter(Name="/cdk-bootstrap/acme/version", Value="5", Type="String")
    _, found = lines(roomcast)
    ssm.delete_parameter(Name="/cdk-bootstrap/acme/version")
    assert found == [
        "stop  the CDK bootstrap stack is version 5, and 6 is needed:"
        f" `npx cdk bootstrap aws://{ACCOUNT}/{REGION} -c stage=prod`"
    ]


def test_a_new_accounts_concurrency(roomcast: Roomcast, account: Account) -> None:
    account.concurrency = 10
    configure()
    assert lines(roomcast) == (
        1,
        [
            "stop  Lambda runs 10 functions at once in this account and region, and 10 workers"
            " (stages.prod.fanout_concurrency) would leave too few for connects: `aws service-quotas"
            " request-service-quota-increase --service-code lambda --quota-code L-B99A9384"
            f" --desired-value 1000 --region {REGION}`, or lower it to 5"
        ],
    )
    configure(fanout_concurrency=5, account_concurrency=1000)
    code, (found,) = lines(roomcast)
    assert code == 0
    assert found.startswith("note  Lambda runs 10 functions at once")


@pytest.mark.parametrize("shown", [10_000.0, 2_500.0, None])
def test_a_newer_regions_quota(
    roomcast: Roomcast, account: Account, aws: botocore.session.Session, shown: float | None
) -> None:
    ssm: Any = aws.create_client("ssm", region_name="eu-south-1")
    ssm.put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="31", Type="String", Overwrite=True)
    account.requests = shown
    configure(region="eu-south-1", account_requests_per_second=10_000)
    code, found = lines(roomcast)
    assert code == 1
    assert found == [
        "stop  all workers together post 6000 times a second (fanout_concurrency x fanout_rate), over 0.7"
        " of the 2500 requests that API Gateway takes in eu-south-1: `aws service-quotas"
        " request-service-quota-increase --service-code apigateway --quota-code L-8A5B8E43"
        " --desired-value 9000 --region eu-south-1`, or lower stages.prod.fanout_rate to 175",
        "note  stages.prod.account_requests_per_second is 10000, and API Gateway takes 2500 in eu-south-1:"
        " set it to 2500 in cdk.json",
    ]


def test_a_raised_quota_counts(roomcast: Roomcast, account: Account) -> None:
    account.requests = 20_000.0
    configure(fanout_rate=1200, account_requests_per_second=20_000)
    assert lines(roomcast)[0] == 0


def test_no_role_for_gateway_logs(roomcast: Roomcast, account: Account) -> None:
    account.role = None
    configure()
    assert lines(roomcast) == (
        1,
        [
            f"stop  API Gateway has no role to write logs with in {REGION}, and stages.prod.gateway_logs"
            " wants logs: `make deploy-account`, or set it to false"
        ],
    )
    configure(gateway_logs=False)
    assert lines(roomcast)[0] == 0


def test_names_that_are_taken(roomcast: Roomcast, account: Account, aws: botocore.session.Session) -> None:
    configure()
    clients = {
        name: aws.create_client(name, region_name=REGION) for name in ("dynamodb", "sqs", "cloudwatch", "ssm")
    }
    any_: dict[str, Any] = clients
    table = f"{STACK.replace('-prod', '')}-rooms-prod"
    any_["dynamodb"].create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "room", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "room", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    url = any_["sqs"].create_queue(QueueName="landinghub-websocket-fanout-prod")["QueueUrl"]
    any_["cloudwatch"].put_dashboard(DashboardName=f"{STACK}-{REGION}", DashboardBody='{"widgets": []}')
    any_["ssm"].put_parameter(Name=f"/{STACK}/WebSocketAPIUrl", Value="x", Type="String")

    code, found = lines(roomcast)
    account.status = "ROLLBACK_COMPLETE"
    assert lines(roomcast) == (code, found)
    account.status = "UPDATE_COMPLETE"
    its_own = lines(roomcast)[0]
    account.status = None
    configure(keep_data=False)
    not_kept = lines(roomcast)[1]

    any_["dynamodb"].delete_table(TableName=table)
    any_["sqs"].delete_queue(QueueUrl=url)
    any_["cloudwatch"].delete_dashboards(DashboardNames=[f"{STACK}-{REGION}"])

    assert (code, its_own) == (1, 0)
    end = f"--region {REGION}`; or choose another prefix or stage name"
    assert [line for line in found if line.startswith("stop")] == [
        f"stop  queue landinghub-websocket-fanout-prod exists, and no stack {STACK} has it: if nobody"
        " needs it, `aws sqs delete-queue --queue-url $(aws sqs get-queue-url --queue-name"
        f" landinghub-websocket-fanout-prod --region {REGION} --query QueueUrl --output text) {end}",
        f"stop  dashboard {STACK}-{REGION} exists, and no stack {STACK} has it: if nobody needs it,"
        f" `aws cloudwatch delete-dashboards --dashboard-names {STACK}-{REGION} {end}",
        f"stop  parameter /{STACK}/WebSocketAPIUrl exists, and no stack {STACK} has it: if nobody needs it,"
        f" `aws ssm delete-parameter --name /{STACK}/WebSocketAPIUrl {end}",
    ]
    assert [line for line in found if line.startswith("note")] == [
        f"note  table {table} is left from an earlier {STACK}: the deployment adopts it, with its data"
    ]
    assert not_kept[0].startswith(f"stop  table {table} exists")
    assert f"`aws dynamodb delete-table --table-name {table} --region {REGION}`" in not_kept[0]


def test_settings_that_were_never_changed(roomcast: Roomcast, account: Account) -> None:
    configure(allowed_origins=["https://www.example.com"], alarm_email=None)
    assert lines(roomcast) == (
        0,
        [
            "note  stages.prod.allowed_origins still names example.com, so your own pages are refused:"
            " name them in cdk.json",
            "note  alarms of prod reach nobody: set stages.prod.alarm_email or alarm_topic_arn in cdk.json",
        ],
    )


def test_what_may_not_be_looked_at_is_noted_and_the_rest_goes_on(
    roomcast: Roomcast, account: Account
) -> None:
    account.denied = {"get_service_quota", "get_account_settings"}
    account.role = None
    configure()
    code, found = lines(roomcast)
    assert code == 1
    assert [line[:4] for line in found] == ["stop", "note", "note"]
    assert found[1] == "note  concurrency not checked: get_account_settings says AccessDeniedException"


def test_the_accounts_own_stack_needs_the_bootstrap_only(roomcast: Roomcast, account: Account) -> None:
    configure()
    assert lines(roomcast, "account")[1][0].endswith(
        f"is not bootstrapped for CDK: `npx cdk bootstrap aws://{ACCOUNT}/us-east-1 -c stage=account`"
    )


# What ends it in one line


def refused(roomcast: Roomcast, stage: str = "prod") -> str:
    answer = roomcast("preflight", "--stage", stage)
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    return answer.err.removeprefix("roomcast: ").strip()


def test_credentials_of_another_account(roomcast: Roomcast, account: Account) -> None:
    configure(account="999999999999")
    assert refused(roomcast) == (
        f"these credentials are of account {ACCOUNT}, and stages.prod.account is 999999999999: set"
        " AWS_PROFILE to that account's, or correct cdk.json"
    )


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (
            error("ExpiredToken", "GetCallerIdentity"),
            "the AWS credentials do not work (GetCallerIdentity says",
        ),
        (EndpointConnectionError(endpoint_url="https://sts.x"), "AWS cannot be reached: Could not connect"),
    ],
)
def test_credentials_that_do_not_work(
    roomcast: Roomcast, account: Account, problem: Exception, says: str
) -> None:
    account.fails["get_caller_identity"] = problem
    configure()
    assert refused(roomcast).startswith(says)


def test_a_stage_that_is_not_in_cdk_json(roomcast: Roomcast, account: Account) -> None:
    configure()
    assert refused(roomcast, "prd") == "cdk.json has no stage prd; it has dev, prod"
    assert "is not deployed; `make dev` runs it" in refused(roomcast, "local")
    Path("cdk.json").write_text("{}")
    assert refused(roomcast).startswith("cdk.json has no stages under context.stages")
    Path("cdk.json").unlink()
    assert refused(roomcast).startswith("no cdk.json here")


def test_a_setting_that_is_no_number_is_left_to_synthesis(roomcast: Roomcast, account: Account) -> None:
    configure(fanout_concurrency="many")
    answer = roomcast("preflight", "--stage", "prod")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "stages.prod.fanout_concurrency in cdk.json must be a number, not 'many'" in answer.err


def test_without_credentials_it_says_so_at_once(tmp_path: Path) -> None:
    configure()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_REGION": REGION}
    command = [
        sys.executable,
        "-c",
        "from roomcast_dev.cli.main import main; main()",
        "preflight",
        "--stage",
        "prod",
    ]
    started = time.monotonic()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    took = time.monotonic() - started
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "roomcast: no AWS credentials: run `aws sso login` or `aws configure`, or set AWS_PROFILE\n"
    )
    assert took < 10, "nothing was synthesized, and nobody waited for"


def test_a_profile_that_this_machine_does_not_have(tmp_path: Path) -> None:
    configure()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_PROFILE": "nope"}
    command = [
        sys.executable,
        "-c",
        "from roomcast_dev.cli.main import main; main()",
        "preflight",
        "--stage",
        "prod",
    ]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "The config profile (nope) could not be found" in done.stderr


def test_the_newer_regions() -> None:
    assert quotas.requests_per_second("us-east-1") == 10_000
    assert quotas.requests_per_second("eu-south-1") == 2_500
    assert preflight_checks.BOOTSTRAP_VERSION == 6
