"""`roomcast preflight`: what would stop a deployment, or spoil it, before it has begun."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import botocore.session
import typer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError

from roomcast_dev.cli import preflight_checks as checks
from roomcast_dev.cli import target
from roomcast_dev.cli.output import Json, print_json

_ACCOUNT_STACK = "account"
"""In the place of a stage: the stack that all stages of an account and region share."""

_CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})
_METADATA_SECONDS = 1
"""For the credentials of an EC2 instance. Everywhere else there is nobody to answer."""


def preflight(
    stage: Annotated[str, typer.Option(help="The stage in cdk.json, for example prod, or account.")],
    as_json: Json = False,
) -> None:
    """Show what would stop or spoil a deployment.

    `make deploy` runs this first. Each line says what is wrong, and the command or setting that cures it. A
    line that begins with `stop` ends the deployment (exit code 1); one that begins with `note` does not.

    \b
    Example:
      roomcast preflight --stage prod
    """
    settings = _settings(stage)
    session = _session()
    region = _region(stage)

    def client(service: str) -> Any:
        return session.create_client(service, region_name=region, config=_CONFIG)

    of = checks.Deployment(client, _account(session, client, stage, settings), region, stage, settings)
    findings = list(checks.of_account(of) if stage == _ACCOUNT_STACK else checks.of_stage(of))
    for finding in sorted(findings, key=lambda each: not each.stops):
        if as_json:
            print_json({"stops": finding.stops, "text": finding.text})
        else:
            print(f"{'stop' if finding.stops else 'note'}  {finding.text}")
    if any(finding.stops for finding in findings):
        raise typer.Exit(1)
    if not findings and not as_json:
        print(f"{stage}: nothing is in the way in account {of.account}, region {of.region}")


def _settings(stage: str) -> Mapping[str, Any]:
    if stage == target.LOCAL:
        raise typer.TyperException(
            "local is the stage on this machine: it is not deployed; `make dev` runs it"
        )
    path = Path("cdk.json")
    if not path.is_file():
        raise typer.TyperException("no cdk.json here: run this in the project's directory")
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["context"]["stages"]
        names = sorted(stages)
    except (ValueError, KeyError, TypeError) as error:
        raise typer.TyperException(f"cdk.json has no stages under context.stages: {error}") from None
    if stage == _ACCOUNT_STACK:
        return {}
    if stage not in stages or not isinstance(stages[stage], dict):
        raise typer.TyperException(f"cdk.json has no stage {stage}; it has {', '.join(names)}")
    settings: Mapping[str, Any] = stages[stage]
    return settings


def _session() -> botocore.session.Session:
    session = botocore.session.get_session()
    session.set_config_variable("metadata_service_timeout", _METADATA_SECONDS)
    session.set_config_variable("metadata_service_num_attempts", 1)
    return session


def _region(stage: str) -> str:
    try:
        region = target.region(stage)
    except BotoCoreError as error:  # AWS_PROFILE names a profile that this machine does not have
        _refused(str(error))
    if not region:
        raise typer.TyperException(f"no region: set stages.{stage}.region in cdk.json, or AWS_REGION")
    return region


def _account(
    session: botocore.session.Session, client: checks.Client, stage: str, settings: Mapping[str, Any]
) -> str:
    """The account of the credentials.

    Raises:
        typer.TyperException: there are none, they do not work, or they are not of the stage's account.
    """
    try:
        if session.get_credentials() is None:
            raise typer.TyperException(
                "no AWS credentials: run `aws sso login` or `aws configure`, or set AWS_PROFILE"
            )
        account = str(client("sts").get_caller_identity()["Account"])
    except (AwsConnectionError, HTTPClientError) as error:
        raise typer.TyperException(f"AWS cannot be reached: {error}") from None
    except ClientError as error:
        _refused(error.response["Error"].get("Message", error.response["Error"]["Code"]))
    except BotoCoreError as error:
        _refused(str(error))
    if settings.get("account") not in (None, account):
        raise typer.TyperException(
            f"these credentials are of account {account}, and stages.{stage}.account is"
            f" {settings['account']}: set AWS_PROFILE to that account's, or correct cdk.json"
        )
    return account


def _refused(why: str) -> NoReturn:
    raise typer.TyperException(
        f"the AWS credentials do not work ({why}): run `aws sso login`, or set AWS_PROFILE"
    )
