"""Which stage a command means: the local one (`.env.local`) or a deployed one (its stack's outputs)."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import botocore.session
import typer
from botocore.exceptions import ClientError
from dotenv import dotenv_values

from roomcast import rooms as rooms_
from roomcast.rooms import Rooms
from roomcast.settings import check_secret
from roomcast.tokens.secret_keys import SecretKeys
from roomcast_dev.local.environment import pointed_at
from roomcast_dev.outputs import KEYS, of_backend

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

    from roomcast import WebSocketService

LOCAL = "local"
ENV_FILE = Path(".env.local")
STACK_PREFIX = "landinghub"

StackOption = Annotated[
    str | None,
    typer.Option(
        help=f"The stack's name, if it is not {STACK_PREFIX}-websocket-STAGE; "
        "STACK/CONSTRUCT where it has several backends."
    ),
]
OutputsOption = Annotated[
    Path | None,
    typer.Option(help="Read the outputs from this file of `cdk deploy --outputs-file`, not from AWS."),
]
EnvFileOption = Annotated[Path, typer.Option(help="The file that `roomcast dev` writes.")]

_OPTIONAL = {"FanOutQueueUrl", "Rooms", "ServerEvents"}


@dataclass(frozen=True)
class Place:
    """The stage that a command works on; `spread` makes its fields options of the command."""

    stage: Annotated[
        str | None,
        typer.Option(
            help="A deployed stage, for example prod. Default: the local stage.",
            autocompletion=lambda: sorted(stages()),
        ),
    ] = None
    stack: StackOption = None
    outputs: OutputsOption = None
    env_file: EnvFileOption = ENV_FILE

    @property
    def is_local(self) -> bool:
        return self.stage in (None, LOCAL) and self.stack is None and self.outputs is None

    @property
    def name(self) -> str:
        """What to call it: its stack's name, or `local stage`."""
        return "local stage" if self.is_local else stack_name(self.stage, self.stack)

    def environ(self) -> dict[str, str]:
        """The environment of a backend of this stage.

        The process is pointed at the same place: at the local stage's AWS endpoint and keys, or at the
        deployed stage's region if no region is set.

        Returns:
            The `WEBSOCKET_*` keys, and for the local stage all others of its file.

        Raises:
            typer.TyperException: there is no such stage.
        """
        if self.is_local:
            return _local(self.env_file)
        environ = deployed(stack_name(self.stage, self.stack), self.outputs)
        # The URLs hold the region, so that nobody has to set AWS_REGION as well as --stage.
        region = re.search(
            r"\.(?:execute-api|sqs)\.([a-z0-9-]+)\.|//sqs\.([a-z0-9-]+)\.", " ".join(environ.values())
        )
        if region and not botocore.session.get_session().get_config_variable("region"):
            os.environ["AWS_DEFAULT_REGION"] = region[1] or region[2]
        return environ

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something that cannot be undone, unless the stage keeps no data.

        Raises:
            typer.TyperException: the answer is no, or there is nobody to ask.
        """
        known = settings(self.stage) if self.stack is None else {}
        if yes or self.is_local or not known.get("keep_data", not known):
            return
        if not sys.stdin.isatty():
            raise typer.TyperException(f"{question} There is nobody to ask here: add --yes")
        if not typer.confirm(question):
            raise typer.TyperException("nothing was changed")

    @contextmanager
    def service(self) -> Iterator["WebSocketService"]:
        """The library, as a backend of this stage has it."""
        from roomcast import WebSocketService  # here, because the commands that send nothing do not need it

        service = WebSocketService.from_env(self.environ())
        try:
            yield service
        finally:
            service.close()


def secret(environ: dict[str, str]) -> str:
    """The key that the stage's tokens are signed with.

    Raises:
        typer.TyperException: the environment names none.
        SettingsError: it is too weak to sign with.
    """
    if environ.get("JWT_SECRET"):
        return check_secret("JWT_SECRET", environ["JWT_SECRET"])
    name = environ.get("WEBSOCKET_JWT_SECRET_NAME")
    if not name:
        raise typer.TyperException(
            "neither JWT_SECRET nor WEBSOCKET_JWT_SECRET_NAME is set: nothing to sign with"
        )
    newest: str = SecretKeys(client("secretsmanager"), name).known()[0]
    return newest


def rooms(environ: Mapping[str, str]) -> Rooms:
    """The kinds of room that the stage has."""
    return Rooms.loads(environ.get(rooms_.KEY, ""))


def client(service: str, region: str | None = None) -> Any:
    """A client of an AWS service. Not by boto3, which takes 0.1 s to import."""
    return botocore.session.get_session().create_client(service, region_name=region)


def region(stage: str | None) -> str | None:
    """The region that a stage is deployed to: as its cdk.json says, or else as the shell does."""
    found = settings(stage).get("region")
    return str(found or "") or botocore.session.get_session().get_config_variable("region")


def stack_name(stage: str | None, stack: str | None) -> str:
    """The name of the stack that the options mean.

    Raises:
        typer.TyperException: they name none, or it cannot be one.
    """
    if stack is None and stage is None:
        raise typer.TyperException("name the stage with --stage, or its stack with --stack")
    if stack is None and stage == LOCAL:
        raise typer.TyperException(f"{LOCAL} is not a deployed stage: name one with --stage")
    known = stages()
    if stack is None and known and stage not in known:
        raise typer.TyperException(f"there is no stage {stage!r}; cdk.json has {', '.join(sorted(known))}")
    name = stack or f"{settings(stage).get('prefix', STACK_PREFIX)}-websocket-{stage}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}(/[A-Za-z0-9]+)?", name):
        raise typer.TyperException(f"{name!r} cannot be a stack: letters, digits and hyphens only")
    return name


def deployed(stack: str, outputs: Path | None) -> dict[str, str]:
    """The environment that a stack's outputs give: a backend's, and `BROWSER_URL`. URLs are `wss://...`.

    Args:
        stack: its name; `NAME/CONSTRUCT` where it has several backends.
        outputs: the file of `cdk deploy --outputs-file`; CloudFormation is asked where it is left out.

    Raises:
        typer.TyperException: there is no such stack, or outputs are missing; it names them all.
    """
    stack, _, construct = stack.partition("/")
    found = _outputs_from_file(stack, outputs) if outputs else _outputs_from_cloudformation(stack)
    try:
        values = of_backend(found, construct or None)
    except ValueError as error:
        raise typer.TyperException(f"stack {stack}: {error}; name one with --stack {stack}/NAME") from None
    missing = [name for name in KEYS if not values.get(name) and name not in _OPTIONAL]
    if missing:
        why = "is it a stack of this project?"
        if missing == ["HistoryTableName"]:
            why = "it was deployed by an older version; deploy it again"
        raise typer.TyperException(f"stack {stack} has no output {', '.join(missing)}: {why}")
    environ = {key: values[name] for name, key in KEYS.items() if values.get(name)}
    endpoint = environ["WEBSOCKET_API_ENDPOINT"]
    return environ | {"WEBSOCKET_API_ENDPOINT": re.sub("^http(s?)://", r"ws\1://", endpoint)}


def settings(stage: str | None) -> Mapping[str, Any]:
    """What the cdk.json of this directory says about a stage; empty if it says nothing.

    Args:
        stage: its name; the local one if None.
    """
    found = stages().get(stage or LOCAL)
    return found if isinstance(found, dict) else {}


def stages() -> Mapping[str, Any]:
    """The stages that the cdk.json of this directory has; none if there is no such file, or another one."""
    try:
        found = json.loads(Path("cdk.json").read_text(encoding="utf-8"))["context"]["stages"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # `app.py` checks that file; here it is a convenience
    return found if isinstance(found, dict) else {}


def resources(stack: str) -> dict[str, list[str]]:
    """What a stack is made of: by type of resource, the names that AWS knows them by.

    Raises:
        typer.TyperException: there is no such stack.
    """
    found: dict[str, list[str]] = {}
    with _stack_errors(stack) as cloudformation:
        for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
            for resource in page["StackResourceSummaries"]:
                if "PhysicalResourceId" in resource:
                    found.setdefault(resource["ResourceType"], []).append(resource["PhysicalResourceId"])
    return found


def _local(env_file: Path) -> dict[str, str]:
    if not env_file.is_file():
        raise typer.TyperException(
            f"no {env_file} here: start the local stage with `make dev`, or name a deployed one with --stage"
        )
    environ = {
        key: value for key, value in dotenv_values(env_file, interpolate=False).items() if value is not None
    }
    # What a shell has set for the cloud must not reach the local stage, nor the other way round.
    pointed = pointed_at(environ, os.environ)
    pointed["AWS_MAX_ATTEMPTS"] = "1"  # on this machine an address that does not answer will not do so later
    if "AWS_REGION" in environ:  # botocore reads only the older name
        pointed["AWS_DEFAULT_REGION"] = environ["AWS_REGION"]
    os.environ.clear()
    os.environ.update(pointed)
    return environ


def _outputs_from_file(stack: str, path: Path) -> dict[str, str]:
    try:
        stacks = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise typer.TyperException(f"no {path}: `cdk deploy --outputs-file {path}` writes it") from None
    except ValueError as error:
        raise typer.TyperException(f"{path} is not JSON: {error}") from None
    if not isinstance(stacks, dict) or not isinstance(stacks.get(stack), dict):
        found = ", ".join(stacks) if isinstance(stacks, dict) and stacks else "none"
        raise typer.TyperException(f"{path} has no stack {stack}; in it: {found}")
    return {key: value for key, value in stacks[stack].items() if isinstance(value, str)}


def _outputs_from_cloudformation(stack: str) -> dict[str, str]:
    with _stack_errors(stack) as cloudformation:
        described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


@contextmanager
def _stack_errors(stack: str) -> Iterator["CloudFormationClient"]:
    cloudformation: CloudFormationClient = client("cloudformation")
    try:
        yield cloudformation
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        raise typer.TyperException(
            f"no stack {stack} in {cloudformation.meta.region_name} of this account:"
            " deploy it, or set AWS_REGION and AWS_PROFILE"
        ) from None
