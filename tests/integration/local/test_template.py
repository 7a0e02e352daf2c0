"""The template is the configuration: what is read out of it, and what is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roomcast_dev.local.errors import TemplateError
from roomcast_dev.local.template.model import Throttle
from roomcast_dev.local.template.reader import load


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def stack(**changes: Any) -> dict[str, Any]:
    """A small template; `changes` add to its resources or replace them, None takes one away."""
    arn = {"Fn::GetAtt": ["Function", "Arn"]}
    resources = {
        "Api": resource("AWS::ApiGatewayV2::Api", ProtocolType="WEBSOCKET"),
        "Stage": resource("AWS::ApiGatewayV2::Stage", ApiId={"Ref": "Api"}, StageName="s"),
        "Function": resource(
            "AWS::Lambda::Function",
            Handler="index.handler",
            Runtime="python3.13",
            Code={"ZipFile": "x = 1"},
            Environment={"Variables": {"TABLE": {"Ref": "Table"}, "PLAIN": "text"}},
        ),
        "Table": resource("AWS::DynamoDB::Table"),
        "Integration": resource(
            "AWS::ApiGatewayV2::Integration",
            ApiId={"Ref": "Api"},
            IntegrationType="AWS_PROXY",
            IntegrationUri={"Fn::Join": ["", ["arn:aws:...functions/", arn, "/invocations"]]},
        ),
        "Route": resource(
            "AWS::ApiGatewayV2::Route",
            ApiId={"Ref": "Api"},
            RouteKey="$default",
            Target={"Fn::Join": ["", ["integrations/", {"Ref": "Integration"}]]},
        ),
        **changes,
    }
    return {"Resources": {key: value for key, value in resources.items() if value is not None}}


def assembly(folder: Path, **stacks: dict[str, Any]) -> Path:
    """A `cdk.out` with these stacks."""
    artifacts = {}
    for name, template in stacks.items():
        (folder / f"{name}.json").write_text(json.dumps(template))
        artifacts[name] = {
            "type": "aws:cloudformation:stack",
            "properties": {"templateFile": f"{name}.json"},
        }
    (folder / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
    return folder


def test_routes_functions_and_limits_come_from_the_template(tmp_path: Path) -> None:
    throttle = {"ThrottlingRateLimit": 7, "ThrottlingBurstLimit": 3}
    stage = resource(
        "AWS::ApiGatewayV2::Stage", ApiId={"Ref": "Api"}, StageName="s", DefaultRouteSettings=throttle
    )
    template = load(assembly(tmp_path, one=stack(Stage=stage)))
    assert (template.stack_name, template.stage, template.throttle) == ("one", "s", Throttle(7.0, 3))
    route = template.routes["$default"]
    assert (route.target, route.timeout, route.responds) == ("Function", 29.0, False)
    function = template.functions["Function"]
    assert (function.timeout, function.memory, function.inline) == (3.0, 128, "x = 1")


def test_ministack_gets_the_data_resources_and_an_output_for_each_expression(tmp_path: Path) -> None:
    template = load(assembly(tmp_path, one=stack()))
    assert set(template.emulated["Resources"]) == {"Table"}
    outputs = {key: f"value of {key}" for key in template.emulated["Outputs"]}
    environment = template.functions["Function"].environment
    assert template.value(environment["PLAIN"], outputs, local_url="x") == "text"
    assert template.value(environment["TABLE"], outputs, local_url="x") == "value of LocalExpression0"


def test_execute_api_urls_become_local_ones(tmp_path: Path) -> None:
    template = load(assembly(tmp_path, one=stack()))
    for scheme, local in (("wss", "ws"), ("https", "http")):
        url = f"{scheme}://local0api0.execute-api.us-east-1.amazonaws.com/s"
        assert template.value(url, {}, local_url="localhost:3001") == f"{local}://localhost:3001/s"


def test_detailed_metrics_without_throttles_are_warned_of(tmp_path: Path) -> None:
    stage = resource(
        "AWS::ApiGatewayV2::Stage",
        ApiId={"Ref": "Api"},
        StageName="s",
        DefaultRouteSettings={"DetailedMetricsEnabled": True},
    )
    assert "throttle as 0" in load(assembly(tmp_path, one=stack(Stage=stage))).warnings[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Api": None}, "exactly one WebSocket API, the CDK app has: none"),
        ({"Stage": None}, "has no stage"),
        (
            {
                "Integration": resource(
                    "AWS::ApiGatewayV2::Integration", ApiId={"Ref": "Api"}, IntegrationType="HTTP_PROXY"
                )
            },
            r"route \$default: HTTP_PROXY integrations do not run here",
        ),
        (
            {"Function": resource("AWS::Lambda::Function", Handler="i.h", Runtime="nodejs22.x")},
            r"route \$default: its function runs on nodejs22.x; only Python runs here",
        ),
        ({"Function": None}, r"route \$default: its function is not in this template"),
    ],
)
def test_what_cannot_run_here_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TemplateError, match=reason):
        load(assembly(tmp_path, one=stack(**changes)))


def test_of_several_stacks_one_is_chosen_by_name(tmp_path: Path) -> None:
    folder = assembly(tmp_path, one=stack(), two=stack())
    with pytest.raises(TemplateError, match="has: one, two"):
        load(folder)
    assert load(folder, "two").stack_name == "two"


def test_a_route_to_an_alias_runs_the_function_behind_it(tmp_path: Path) -> None:
    """What changes gradually is called through an alias of a version."""
    version = resource("AWS::Lambda::Version", FunctionName={"Ref": "Function"})
    alias = resource(
        "AWS::Lambda::Alias",
        FunctionName={"Ref": "Function"},
        FunctionVersion={"Fn::GetAtt": ["Version", "Version"]},
        Name="live",
    )
    integration = resource(
        "AWS::ApiGatewayV2::Integration",
        ApiId={"Ref": "Api"},
        IntegrationType="AWS_PROXY",
        IntegrationUri={"Fn::Join": ["", ["arn:aws:...functions/", {"Ref": "Alias"}, "/invocations"]]},
    )
    template = load(assembly(tmp_path, one=stack(Version=version, Alias=alias, Integration=integration)))
    assert template.routes["$default"].target == "Function"
