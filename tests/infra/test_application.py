"""What `stacks/application.py` adds to a stage: its resources, their rights and variables, nothing else."""

import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from roomcast_cdk import Stage
from roomcast_dev.local.template.reader import load
from stacks import application
from stacks.websocket_stack import WebSocketStack
from tests.infra.conftest import CONTEXT
from tests.infra.resources import Resources
from tests.infra.test_clean_templates import nag
from tests.infra.test_least_privilege import RIGHTS

AddResources = Callable[[Construct, lambda_.Function], None]

SHIPPED: AddResources = application.add_resources


def example(scope: Construct, function: lambda_.Function) -> None:
    """The example in the docstring of `add_resources`."""
    text = str(inspect.getdoc(SHIPPED))
    code = text.split(":\n\n", 1)[1].partition("\n\nThe test of")[0]
    exec(textwrap.dedent(code), {"dynamodb": dynamodb, "scope": scope, "function": function})


class Bare(cdk.Stack):
    """A function with no rights, and what an application adds to it."""

    def __init__(self, app: cdk.App, add_resources: AddResources) -> None:
        super().__init__(app, "bare")
        function = lambda_.Function(
            self,
            "Function",
            function_name="websocketDefault",
            runtime=lambda_.Runtime.PYTHON_3_13,
            handler="index.handler",
            code=lambda_.Code.from_inline("def handler(event, context): pass"),
            role=cdk.aws_iam.Role(
                self, "Role", assumed_by=cdk.aws_iam.ServicePrincipal("lambda.amazonaws.com")
            ),
        )
        add_resources(Construct(self, "Application"), function)


def with_application(app: cdk.App, add_resources: AddResources) -> None:
    """Put the stage `dev` with these resources into an app."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "add_resources", add_resources)
        WebSocketStack(app, "dev", stage=Stage.from_context("dev", CONTEXT["stages"]))


class Added:
    """The stage `dev` with the resources of an application, and what they are by themselves."""

    def __init__(self, outdir: Path, add_resources: AddResources) -> None:
        self.outdir = outdir
        self.app = cdk.App(outdir=str(outdir), context=CONTEXT | {"aws:cdk:enable-path-metadata": True})
        Bare(self.app, add_resources)
        with_application(self.app, add_resources)

    def synth(self) -> tuple[Resources, Resources]:
        """The resources of the stage, and those of the application by themselves."""
        self.app.synth()
        dev, bare = (
            Resources(json.loads((self.outdir / f"{name}.template.json").read_text()))
            for name in ("dev", "bare")
        )
        return dev, bare


@pytest.fixture(params=[SHIPPED, example], ids=["shipped", "example"])
def added(request: pytest.FixtureRequest, tmp_path: Path) -> Added:
    return Added(tmp_path, request.param)


def rights(function: Resources) -> dict[str, set[str]]:
    """What a role may do; nothing if it has no policy."""
    return function.rights("Default") if function.of_type("AWS::IAM::Policy") else {}


def test_the_function_may_do_what_was_granted_there_and_nothing_else(added: Added) -> None:
    dev, bare = added.synth()
    of_stage = {
        name.replace("-prod", "-dev").replace("/prod/", "/dev/"): actions
        for name, actions in RIGHTS["Default"].items()
    }
    assert dev.rights("Default") == of_stage | rights(bare)


def test_the_rest_of_the_stage_is_as_it_was(added: Added, resources: dict[str, Resources]) -> None:
    dev, bare = added.synth()
    told = bare.function("Default").get("Environment", {}).get("Variables", {})
    assert dev.environment("Default") == resources["dev"].environment("Default") | {
        name: bare.name(value) for name, value in told.items()
    }
    own = {
        id_: resource
        for id_, resource in dev.all.items()
        if not resource.get("Metadata", {}).get("aws:cdk:path", "").startswith("dev/Application/")
    }
    changed = {id_ for id_ in own if own[id_] != resources["dev"].all.get(id_)}
    assert own.keys() == resources["dev"].all.keys()
    assert all("WebSocketOnMessage" in id_ for id_ in changed)


def test_the_example_is_one_table(tmp_path: Path) -> None:
    dev, _ = Added(tmp_path, example).synth()
    assert dev.rights("Default")["Application/Orders"] == {"dynamodb:GetItem", "dynamodb:PutItem"}


def test_the_local_run_makes_its_tables_and_tells_the_function_their_names(tmp_path: Path) -> None:
    Added(tmp_path, example).synth()
    template = load(tmp_path)
    (function,) = (f for f in template.functions.values() if f.handler == "default.handler")
    table: Any = function.environment["ORDERS_TABLE"]
    assert template.emulated["Resources"][table["Ref"]]["Type"] == "AWS::DynamoDB::GlobalTable"


@pytest.mark.slow
def test_cdk_nag_finds_nothing_in_what_ships(tmp_path: Path) -> None:
    app = cdk.App(outdir=str(tmp_path), context=CONTEXT)
    with_application(app, SHIPPED)
    assert nag(app) == {"AwsSolutions": [], "Serverless": []}
