"""What is looked at before a deployment: each check yields a line for what it finds, with the cure."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer
from botocore.exceptions import ClientError

from roomcast_dev import quotas
from roomcast_dev.cli import stack_state, target

BOOTSTRAP_VERSION = 6
"""The least that a template of this CDK asks of the bootstrap stack (its rule CheckBootstrapVersion)."""

_CONCURRENCY = ("lambda", "L-B99A9384")
_REQUESTS = ("apigateway", "L-8A5B8E43")
"""Service and code under Service Quotas."""

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
_NOT_THERE = {
    *("404", "NotFoundException", "ParameterNotFound", "ResourceNotFound", "ResourceNotFoundException"),
    *("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NoSuchResourceException"),
}

Client = Callable[[str], Any]


class Deployment(NamedTuple):
    """What would be deployed, and where.

    Attributes:
        client: makes a client of a service in the region.
        account: the account of the credentials.
        region: the stage's.
        stage: its name.
        settings: what cdk.json says of it; synthesis checks them.
    """

    client: Client
    account: str
    region: str
    stage: str
    settings: Mapping[str, Any]

    def number(self, key: str) -> int:
        """A setting that is a number.

        Raises:
            typer.TyperException: it is missing, or it is not one.
        """
        value = self.settings.get(key)
        if not isinstance(value, int):
            raise typer.TyperException(
                f"stages.{self.stage}.{key} in cdk.json must be a number, not {value!r}"
            )
        return value


class Finding(NamedTuple):
    """One line.

    Attributes:
        stops: whether the deployment would fail, or work and do harm.
        text: what is wrong, and the command that cures it.
    """

    stops: bool
    text: str


def stop(text: str) -> Finding:
    """A finding that ends the deployment."""
    return Finding(stops=True, text=text)


def note(text: str) -> Finding:
    """A finding that a person should know of."""
    return Finding(stops=False, text=text)


def of_account(of: Deployment) -> Iterator[Finding]:
    """What the account's own stack needs."""
    yield from _told(_bootstrap, of)


def of_stage(of: Deployment) -> Iterator[Finding]:
    """What a stage needs."""
    for check in (_bootstrap, _concurrency, _requests, _log_role, _names):
        yield from _told(check, of)
    yield from _settings(of)


def _told(check: Callable[[Deployment], Iterator[Finding]], of: Deployment) -> Iterator[Finding]:
    """Run a check. One that these credentials may not make is noted, and the others go on."""
    try:
        yield from check(of)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _DENIED:
            raise
        what = check.__name__.strip("_").replace("_", " ")
        yield note(f"{what} not checked: {error.response['Error'].get('Message', 'access denied')}")


def _bootstrap(of: Deployment) -> Iterator[Finding]:
    name = f"/cdk-bootstrap/{_qualifier()}/version"
    cure = f"`npx cdk bootstrap aws://{of.account}/{of.region} -c stage={of.stage}`"
    try:
        version = int(of.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        yield stop(f"account {of.account}, region {of.region} is not bootstrapped for CDK: {cure}")
        return
    if version < BOOTSTRAP_VERSION:
        yield stop(f"the CDK bootstrap stack is version {version}, and {BOOTSTRAP_VERSION} is needed: {cure}")


def _concurrency(of: Deployment) -> Iterator[Finding]:
    workers = of.number("fanout_concurrency")
    limit = of.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    if workers > limit / 2:
        yield stop(
            f"Lambda runs {limit} functions at once in this account and region, and {workers} workers"
            f" (stages.{of.stage}.fanout_concurrency) would leave too few for connects:"
            f" {_ask(_CONCURRENCY, of, 1000)}, or lower it to {max(2, limit // 2)}"
        )
    elif limit < int(of.settings.get("account_concurrency", limit)):
        yield note(
            f"Lambda runs {limit} functions at once in this account and region, fewer than"
            f" stages.{of.stage}.account_concurrency says: {_ask(_CONCURRENCY, of, 1000)}"
        )


def _requests(of: Deployment) -> Iterator[Finding]:
    service, code = _REQUESTS
    default = quotas.requests_per_second(of.region)
    try:
        answer = of.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
        shown = int(answer["Quota"]["Value"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchResourceException":
            raise
        shown = default  # a quota that was never changed may not be listed
    # In the newer regions Service Quotas has shown 10,000 where 2,500 held.
    quota = default if shown == 10_000 else shown
    share = float(of.settings.get("fanout_share", 0.7))
    posts = of.number("fanout_concurrency") * of.number("fanout_rate")
    raise_it = _ask(_REQUESTS, of, math.ceil(posts / share / 500) * 500)
    lower = int(share * quota / of.number("fanout_concurrency"))
    if posts > share * quota:
        yield stop(
            f"all workers together post {posts} times a second (fanout_concurrency x fanout_rate), over"
            f" {share:g} of the {quota} requests that API Gateway takes in {of.region}: {raise_it},"
            f" or lower stages.{of.stage}.fanout_rate to {lower}"
        )
    said = of.settings.get("account_requests_per_second")
    if said is not None and int(said) > quota:
        yield note(
            f"stages.{of.stage}.account_requests_per_second is {said}, and API Gateway takes {quota} in"
            f" {of.region}: set it to {quota} in cdk.json"
        )


def _log_role(of: Deployment) -> Iterator[Finding]:
    if not of.settings.get("gateway_logs"):
        return
    if not of.client("apigateway").get_account().get("cloudwatchRoleArn"):
        yield stop(
            f"API Gateway has no role to write logs with in {of.region}, and stages.{of.stage}.gateway_logs"
            " wants logs: `make deploy-account`, or set it to false"
        )


def names(stage: str, settings: Mapping[str, Any], region: str) -> dict[str, list[str]]:
    """The fixed names of a stage's resources, by type: what a stack of that stage would find taken."""
    prefix = settings.get("prefix", target.STACK_PREFIX)
    stack = f"{prefix}-websocket-{stage}"
    functions = ["Connect", "Disconnect", "Default", "Fanout", *(["Count"] if settings["monitoring"] else [])]
    key = settings.get("customer_key") and not settings.get("customer_key_arn")
    return {
        "table": [f"{prefix}-websocket-{what}-{stage}" for what in ("connections", "history", "rooms")],
        "queue": [f"{prefix}-websocket-fanout-{stage}"],
        "function": [f"{prefix}-backend-{stage}-websocket{what}" for what in functions],
        "key alias": [f"alias/{stack}"] if key else [],
        "dashboard": [f"{stack}-{region}"] if settings["monitoring"] else [],
        "parameter": [f"/{stack}/WebSocketAPIUrl"],
        "domain": [str(settings["domain_name"])] if settings.get("domain_name") else [],
    }


def _names(of: Deployment) -> Iterator[Finding]:
    """Names that are taken although no stack of the stage has them."""
    stack = target.stack_name(of.stage, None)
    found = stack_state.find(of.client("cloudformation"), stack)
    if found is not None and found.status != "ROLLBACK_COMPLETE":
        return  # they are its own
    for kind, kinds_names in names(of.stage, of.settings, of.region).items():
        for name in kinds_names:
            if not _exists(of, kind, name):
                continue
            if kind == "table" and of.settings["keep_data"]:
                yield note(
                    f"table {name} is left from an earlier {stack}: the deployment adopts it, with its data"
                )
            else:
                yield stop(
                    f"{kind} {name} exists, and no stack {stack} has it: {_removal(kind, name, of.region)}"
                )


def _exists(of: Deployment, kind: str, name: str) -> bool:
    try:
        match kind:
            case "table":
                of.client("dynamodb").describe_table(TableName=name)
            case "queue":
                of.client("sqs").get_queue_url(QueueName=name)
            case "function":
                of.client("lambda").get_function(FunctionName=name)
            case "key alias":
                of.client("kms").describe_key(KeyId=name)
            case "dashboard":
                of.client("cloudwatch").get_dashboard(DashboardName=name)
            case "parameter":
                of.client("ssm").get_parameter(Name=name)
            case "domain":
                of.client("apigatewayv2").get_domain_name(DomainName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_THERE:
            return False
        raise
    return True


def _removal(kind: str, name: str, region: str) -> str:
    command = {
        "table": f"dynamodb delete-table --table-name {name}",
        "queue": f"sqs delete-queue --queue-url $(aws sqs get-queue-url --queue-name {name}"
        f" --region {region} --query QueueUrl --output text)",
        "function": f"lambda delete-function --function-name {name}",
        "key alias": f"kms delete-alias --alias-name {name}",
        "dashboard": f"cloudwatch delete-dashboards --dashboard-names {name}",
        "parameter": f"ssm delete-parameter --name {name}",
        "domain": f"apigatewayv2 delete-domain-name --domain-name {name}",
    }[kind]
    return f"if nobody needs it, `aws {command} --region {region}`; or choose another prefix or stage name"


def _settings(of: Deployment) -> Iterator[Finding]:
    """What needs no AWS."""
    if any("example.com" in str(origin) for origin in of.settings.get("allowed_origins", [])):
        yield note(
            f"stages.{of.stage}.allowed_origins still names example.com, so your own pages are refused:"
            " name them in cdk.json"
        )
    if of.settings.get("monitoring") and not (
        of.settings.get("alarm_email") or of.settings.get("alarm_topic_arn")
    ):
        yield note(
            f"alarms of {of.stage} reach nobody: set stages.{of.stage}.alarm_email or alarm_topic_arn in"
            " cdk.json"
        )


def _ask(quota: tuple[str, str], of: Deployment, value: int) -> str:
    service, code = quota
    return (
        f"`aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code}"
        f" --desired-value {value} --region {of.region}`"
    )


def _qualifier() -> str:
    """The name of the bootstrap stack's kind, where cdk.json says another than CDK's own."""
    try:
        context = json.loads(Path("cdk.json").read_text(encoding="utf-8"))["context"]
        return str(context.get("@aws-cdk/core:bootstrapQualifier", "hnb659fds"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "hnb659fds"
