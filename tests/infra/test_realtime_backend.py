"""`RealtimeBackend` in the stacks of other CDK apps: names, rights, settings; two of them in one stack."""

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import cdk_nag
import pytest
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template
from constructs import Construct

from roomcast.settings import Settings
from roomcast_cdk import RealtimeBackend, Stage, StageError
from tests.infra.conftest import ROOT
from tests.infra.resources import Resources

SETTINGS: dict[str, Any] = {
    "stage": "dev",
    "keep_data": False,
    "allowed_origins": ["https://shop.example.org"],
}
WATCHED = SETTINGS | {
    "monitoring": True,
    "alarm_email": "ops@example.org",
    "customer_key": True,
    "gateway_logs": True,
    "gradual_changes": True,
}


class Shop(cdk.Stack):
    """Two backends, and a function's role that sends with one and signs for the other."""

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_)
        self.chat = RealtimeBackend(self, "Chat", settings=WATCHED)
        self.orders = RealtimeBackend(Construct(self, "Part"), "Orders", settings=WATCHED)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.chat.grant_send(role)
        self.orders.grant_sign(role)
        cdk.CfnOutput(self, "Urls", value=f"{self.chat.url} {self.chat.callback_url}")
        cdk.CfnOutput(self, "Table", value=self.orders.connections.table_name)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of `Shop`; what cdk-nag finds in it is under `nag`."""
    outdir = tmp_path_factory.mktemp("shop") / "out"
    app = cdk.App(outdir=str(outdir), context={"aws:cdk:enable-path-metadata": True})
    Shop(app, "shop")
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app), cdk_nag.ServerlessChecks(app))
    app.synth()  # raises for a finding
    document: dict[str, Any] = json.loads((outdir / "shop.template.json").read_text())
    return document


def test_two_in_one_stack_share_no_name(shop: dict[str, Any]) -> None:
    owners: dict[str, set[str]] = {}
    unique = {
        "AWS::ApiGatewayV2::Api": "Name",
        "AWS::CloudWatch::Dashboard": "DashboardName",
        "AWS::DynamoDB::Table": "TableName",
        "AWS::KMS::Alias": "AliasName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::Logs::QueryDefinition": "Name",
        "AWS::SQS::Queue": "QueueName",
        "AWS::SSM::Parameter": "Name",
    }
    for id_, resource in shop["Resources"].items():
        name = resource.get("Properties", {}).get(unique.get(resource["Type"], ""))
        if name is not None:
            owners.setdefault(f"{resource['Type']} {json.dumps(name)}", set()).add(id_)
    assert {name: ids for name, ids in owners.items() if len(ids) > 1} == {}
    assert len(owners) == 52
    assert any("shop-chat-websocket" in name for name in owners)
    assert any("shop-part-orders-websocket" in name for name in owners)


def test_its_metrics_are_its_own(shop: dict[str, Any]) -> None:
    resources = Resources(shop)
    stacks = {
        function["Properties"]["Environment"]["Variables"]["WEBSOCKET_METRICS"]
        for function in resources.of_type("AWS::Lambda::Function").values()
    }
    assert stacks == {"shop-chat-websocket-dev", "shop-part-orders-websocket-dev"}


def test_outputs_have_the_constructs_id_in_front(shop: dict[str, Any]) -> None:
    for place in ("Chat", "PartOrders"):
        assert {f"{place}WebSocketAPIUrl", f"{place}JwtSecretName"} <= set(shop["Outputs"])
    assert not any("Export" in output for output in shop["Outputs"].values())


def test_a_role_gets_what_it_was_granted_and_nothing_of_the_other(shop: dict[str, Any]) -> None:
    resources = Resources(shop)
    (policy,) = (
        policy
        for policy in resources.of_type("AWS::IAM::Policy").values()
        if policy["Metadata"]["aws:cdk:path"].startswith("shop/Role/")
    )
    allowed = resources._allowed(policy)
    assert allowed.pop("Part/Orders/JwtSecret/Secret") == {"secretsmanager:GetSecretValue"}
    assert {"shop-chat-websocket-connections-dev", "shop-chat-websocket-fanout-dev"} <= set(allowed)
    assert not any("orders" in name.lower() for name in allowed)


@pytest.fixture
def stack() -> cdk.Stack:
    return cdk.Stack(cdk.App(), "shop")


def test_its_environment_is_what_a_backend_reads(stack: cdk.Stack) -> None:
    environment = RealtimeBackend(stack, "Realtime", settings=SETTINGS).environment
    assert Settings.from_env(environment | {"WEBSOCKET_API_ENDPOINT": "https://x/dev"}).rooms_table
    assert set(environment) == {
        *("WEBSOCKET_API_ENDPOINT", "WEBSOCKET_CONNECTIONS_TABLE", "WEBSOCKET_FANOUT_QUEUE_URL"),
        *("WEBSOCKET_HISTORY_TABLE", "WEBSOCKET_JWT_SECRET_NAME", "WEBSOCKET_ROOMS_TABLE"),
        "WEBSOCKET_ROOMS",
    }


def test_backends_hear_of_the_window_of_last_values(stack: cdk.Stack) -> None:
    application = ROOT / "lambdas" / "app.py"
    settings = SETTINGS | {"last_value_window": 5}
    environment = RealtimeBackend(stack, "Realtime", settings=settings, application=application).environment
    rooms = Settings.from_env(environment | {"WEBSOCKET_API_ENDPOINT": "https://x/dev"}).rooms
    windows = [kind.history.window for kind in rooms.kinds if kind.history]
    assert windows == [5, 5, 0, 0]


@pytest.mark.parametrize(
    ("stack_name", "id_", "prefix"),
    [
        ("shop", "Realtime", "shop-realtime"),
        ("Shop", "Default", "shop"),
        ("a-very-long-name-of-a-stack", "Realtime", "a-very-long-n-018d77"),
    ],
)
def test_the_names_start_with_stack_and_construct(stack_name: str, id_: str, prefix: str) -> None:
    stack = cdk.Stack(cdk.App(), stack_name)
    assert RealtimeBackend(stack, id_, settings=SETTINGS).stage.prefix == prefix


def test_a_prefix_of_ones_own_stays(stack: cdk.Stack) -> None:
    backend = RealtimeBackend(stack, "Realtime", settings=SETTINGS | {"prefix": "acme"})
    assert stack.resolve(backend.connections.table_name)
    assert backend.stage.table_name("rooms") == "acme-websocket-rooms-dev"


def test_settings_may_come_from_cdk_json() -> None:
    stages = {"dev": {k: v for k, v in SETTINGS.items() if k != "stage"}}
    stack = cdk.Stack(cdk.App(context={"stage": "dev", "stages": stages}), "shop")
    stage = RealtimeBackend(stack, "Realtime").stage
    assert (stage.name, stage.prefix, stage.throttle_rate) == ("dev", "shop-realtime", 500)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_data": False}, "settings.stage: must be the stage's name, such as 'dev', not None"),
        (SETTINGS | {"colour": 1}, "stages.dev.colour: is not a setting"),
        (
            SETTINGS | {"account": "111122223333"},
            "stages.dev.account: is 111122223333, and the stack shop leaves it open: give it an `env`",
        ),
        (None, "stages: is missing"),
    ],
)
def test_wrong_settings_name_the_key(stack: cdk.Stack, settings: Any, message: str) -> None:
    with pytest.raises(StageError) as caught:
        RealtimeBackend(stack, "Realtime", settings=settings)
    assert str(caught.value).startswith(message)


def test_a_stage_of_another_region_is_refused() -> None:
    env = cdk.Environment(account="111122223333", region="eu-west-1")
    stack = cdk.Stack(cdk.App(), "shop", env=env)
    settings = SETTINGS | {"account": "111122223333", "region": "eu-central-1"}
    with pytest.raises(StageError, match="is eu-central-1, and the stack shop is for eu-west-1"):
        RealtimeBackend(stack, "Realtime", settings=settings)


def test_kept_data_in_a_stack_that_anybody_may_delete_is_a_warning(tmp_path: Path) -> None:
    app = cdk.App(outdir=str(tmp_path))
    env = cdk.Environment(account="111122223333", region="eu-west-1")
    stack = cdk.Stack(app, "shop", env=env)
    settings = SETTINGS | {"keep_data": True, "account": env.account, "region": env.region}
    RealtimeBackend(stack, "Realtime", settings=settings)
    app.synth()
    assert "give it termination_protection=True" in (tmp_path / "shop.metadata.json").read_text()


def test_the_tags_of_a_stage_reach_the_resources(stack: cdk.Stack) -> None:
    RealtimeBackend(stack, "Realtime", settings=SETTINGS | {"tags": {"team": "shop"}})
    template = cdk.assertions.Template.from_stack(stack).to_json()
    (table, *_) = Resources(dict(template)).of_type("AWS::DynamoDB::Table").values()
    assert {"Key": "team", "Value": "shop"} in table["Properties"]["Tags"]
    assert {"Key": "roomcast:stage", "Value": "dev"} in table["Properties"]["Tags"]


def test_a_stage_may_be_given_as_it_is(stack: cdk.Stack) -> None:
    stage = Stage.from_settings("dev", {k: v for k, v in SETTINGS.items() if k != "stage"})
    assert RealtimeBackend(stack, "Realtime", settings=stage).stage is stage


def test_the_example_of_the_page_synthesizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "using-the-construct.md").read_text()
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    Path("realtime.py").write_text(page.split("```python\n", 2)[2].split("```", 1)[0])
    exec(page.split("```python\n", 1)[1].split("```", 1)[0], names)
    app = cdk.App()
    task = ecs.FargateTaskDefinition(cdk.Stack(app, "service"), "Task")
    task.add_container("Web", image=ecs.ContainerImage.from_registry("shop"))
    shop = names["Shop"](app, "shop", task)
    (definition,) = (
        Resources(dict(cdk.assertions.Template.from_stack(task.stack).to_json()))
        .of_type("AWS::ECS::TaskDefinition")
        .values()
    )
    variables = definition["Properties"]["ContainerDefinitions"][0]["Environment"]
    assert len(variables) == len(shop.node.find_child("Realtime").environment)


def test_connects_run_the_application_only_where_it_has_hooks_for_them(
    stack: cdk.Stack, tmp_path: Path
) -> None:
    file = tmp_path / "shop.py"
    file.write_text(
        "from roomcast import App\napp = App()\n@app.on('connected')\ndef came(ctx): ...\n"
        "@app.on('joined')\ndef joined(ctx, room): ...\n"
    )
    RealtimeBackend(stack, "Realtime", settings=SETTINGS, application=file)
    resources = Resources(dict(Template.from_stack(stack).to_json()))
    runs = {
        function["Properties"]["Handler"]: function["Properties"]["Environment"]["Variables"]
        for function in resources.of_type("AWS::Lambda::Function").values()
    }
    with_code = {handler for handler, variables in runs.items() if "WEBSOCKET_APPLICATION" in variables}
    assert with_code == {"connect.handler", "default.handler"}
    assert "WEBSOCKET_FANOUT_QUEUE_URL" in runs["connect.handler"]
