"""What only a real account would refuse or never report: one test for each finding, under its number.

The numbers are those of the review "What a real AWS account would say to the stack" (`aws.md`).
"""

import json
import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam

from roomcast_cdk.stage import Stage
from stacks.websocket_stack import WebSocketStack
from tests.infra.conftest import CONTEXT, KEY, RUNTIME, SETTINGS
from tests.infra.resources import Resources

WATCHED = ["prod", "own-key", "given-key", "strict", "gradual"]
LOGICAL_IDS = {
    "AWS::ApiGatewayV2::Api": {"WebSocketApi273F6915"},
    "AWS::ApiGatewayV2::Stage": {"WebSocketStageE8999091"},
    "AWS::DynamoDB::Table": {
        "TablesConnectionsF6D675B1",
        "TablesHistory40CCE7D9",
        "TablesRooms119D85BA",
    },
    "AWS::SQS::Queue": {"FanOutQueue8AB53E8C", "FanOutDeadLettersE0407C71"},
    "AWS::Lambda::Function": {
        "WebSocketOnConnectFunctionDEFFA4DE",
        "WebSocketOnDisconnectFunctionFD2DAF86",
        "WebSocketOnMessageFunctionB0A47FE8",
        "FanOutWorkerFunctionDEE8F501",
    },
}


@pytest.mark.parametrize("stage", ["local", "dev", "prod", "own-key", "domain", "vpc"])
def test_what_has_a_name_or_an_address_keeps_its_logical_id(
    resources: dict[str, Resources], stage: str
) -> None:
    """aws.md 42: under another id CloudFormation would replace it: a fixed name forbids that, a URL moves."""
    for kind, ids in LOGICAL_IDS.items():
        found = set(resources[stage].of_type(kind))
        assert {id_ for id_ in found if not id_.startswith("Monitoring")} == ids


@pytest.mark.parametrize("stage", WATCHED)
def test_no_alarm_has_an_expression_that_cloudwatch_refuses(
    resources: dict[str, Resources], stage: str
) -> None:
    """aws.md 1: an array in metric math holds time series only, and some functions are not for alarms."""
    expressions = [
        query["Expression"]
        for alarm in resources[stage].of_type("AWS::CloudWatch::Alarm").values()
        for query in alarm["Properties"].get("Metrics", [])
        if "Expression" in query
    ]
    assert len(expressions) >= 6
    for expression in expressions:
        assert "[" not in expression
        assert not re.search(r"\b(MAX|MIN|SUM|AVG|RUNNING_SUM|TIME_SERIES|SEARCH|METRICS)\(", expression)


@pytest.mark.parametrize("stage", ["prod", "own-key", "given-key", "strict"])
def test_cloudwatch_may_publish_to_the_topic_that_its_alarms_notify(
    resources: dict[str, Resources], stage: str
) -> None:
    """aws.md 3: a topic with a policy of its own has lost the default one, which allows it."""
    (topic,) = resources[stage].of_type("AWS::SNS::Topic")
    (policy,) = resources[stage].of_type("AWS::SNS::TopicPolicy").values()
    allowed = [
        statement
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    assert [(s["Principal"], s["Action"], s["Resource"]) for s in allowed] == [
        ({"Service": "cloudwatch.amazonaws.com"}, "sns:Publish", {"Ref": topic})
    ]
    (condition,) = [statement["Condition"] for statement in allowed]
    assert resources[stage].name(condition["StringEquals"]["aws:SourceAccount"]) == "<accountid>"


@pytest.mark.parametrize("stage", ["domain", "vpc"])
def test_a_domain_is_for_browsers_and_posts_wait_for_no_dns(
    resources: dict[str, Resources], stage: str
) -> None:
    """aws.md 4 and 20: only a stage that asks for it posts to the domain."""
    outputs = resources[stage].document["Outputs"]
    path = "/v1" if stage == "domain" else ""
    assert outputs["WebSocketAPIUrl"]["Value"] == f"wss://ws.example.com{path}"
    posts_to = (
        "https://WebSocket/Api.execute-api.<region>.<urlsuffix>/domain"
        if stage == "domain"
        else "https://ws.example.com"
    )
    assert resources[stage].name(outputs["WebSocketCallbackUrl"]["Value"]) == posts_to
    for function in ("Connect", "Default", "Fanout"):
        assert resources[stage].environment(function)["WEBSOCKET_API_ENDPOINT"] == posts_to


def test_executions_can_be_reserved_for_connects(resources: dict[str, Resources]) -> None:
    """aws.md 5."""
    reserved = {
        name: resources["shared"].function(name).get("ReservedConcurrentExecutions")
        for name in ("Connect", "Disconnect", "Default", "Fanout")
    }
    assert reserved == {"Connect": 50, "Disconnect": 50, "Default": None, "Fanout": None}


def test_a_stage_that_keeps_data_belongs_to_one_account_and_region(assembly: Any) -> None:
    """aws.md 6: the CLI refuses the credentials of another."""
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    environments = {name: artifacts[name]["environment"] for name in SETTINGS}
    assert environments["prod"] == "aws://000000000000/us-east-1"
    assert environments["dev"] == "aws://unknown-account/unknown-region"
    assert artifacts["prod"]["properties"]["terminationProtection"] is True


def test_a_dashboard_is_of_one_region(resources: dict[str, Resources]) -> None:
    """aws.md 7: an account has one set of dashboards for all regions."""
    for stage in ("prod", "strict"):
        (board,) = resources[stage].of_type("AWS::CloudWatch::Dashboard").values()
        name = resources[stage].name(board["Properties"]["DashboardName"])
        assert name == f"landinghub-websocket-{stage}-<region>"


def test_gateway_logs_can_be_switched_off_and_on_again(resources: dict[str, Resources]) -> None:
    """aws.md 12: no log group with a fixed name outlives its stack."""
    for stage in ("prod", "own-key", "given-key"):
        named = [
            group
            for group in resources[stage].of_type("AWS::Logs::LogGroup").values()
            if "LogGroupName" in group["Properties"]
        ]
        assert [group["DeletionPolicy"] for group in named] == ["Delete"]


def test_the_policy_of_a_backend_is_attached_by_the_stack(resources: dict[str, Resources]) -> None:
    """aws.md 13: it is detached when the stack goes, and no setting changes what would replace it."""
    (policy,) = resources["shared"].of_type("AWS::IAM::ManagedPolicy").values()
    assert policy["Properties"]["Roles"] == ["orders", "billing"]
    descriptions = {
        policy["Properties"]["Description"]
        for stage in resources.values()
        for policy in stage.of_type("AWS::IAM::ManagedPolicy").values()
    }
    assert descriptions == {"Lets a backend send to the browsers of a Roomcast stage"}


def test_a_secret_under_a_key_of_its_own_can_be_read(resources: dict[str, Resources]) -> None:
    """aws.md 14."""
    shared = resources["shared"]
    for function in ("Connect", "Default"):
        role = shared.function(function)["Role"]["Fn::GetAtt"][0]
        statements = [
            statement
            for policy in shared.of_type("AWS::IAM::Policy").values()
            if {"Ref": role} in policy["Properties"]["Roles"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if statement["Resource"] == KEY
        ]
        (decrypt,) = statements
        assert decrypt["Action"] == "kms:Decrypt"
        service = shared.name(decrypt["Condition"]["StringEquals"]["kms:ViaService"])
        assert service == "secretsmanager.<region>.<urlsuffix>"


def test_the_index_is_watched_as_the_tables_are(resources: dict[str, Resources]) -> None:
    """aws.md 15: a table's metrics leave its indexes out."""
    (alarm,) = [
        alarm["Properties"]
        for id_, alarm in resources["prod"].of_type("AWS::CloudWatch::Alarm").items()
        if "TableThrottles" in id_
    ]
    watched = [
        {d["Name"]: resources["prod"].name(d["Value"]) for d in query["MetricStat"]["Metric"]["Dimensions"]}
        for query in alarm["Metrics"]
        if "MetricStat" in query
    ]
    connections = {"TableName": "landinghub-websocket-connections-prod"}
    index = connections | {"GlobalSecondaryIndexName": "UserIdIndex"}
    rooms = {"TableName": "landinghub-websocket-rooms-prod"}
    history = {"TableName": "landinghub-websocket-history-prod"}
    for each in (connections, index, rooms, history):
        assert watched.count(each) == 2
    assert len(watched) == 8
    assert len(alarm["Metrics"]) <= 10  # CloudWatch's limit for one alarm
    body = json.dumps(resources["prod"].dashboard())
    assert body.count("GlobalSecondaryIndexName") >= 4


def test_a_kept_stage_gets_a_new_runtime_with_a_deployment_only(resources: dict[str, Resources]) -> None:
    """aws.md 17: botocore is part of the runtime, and Lambda would change it on any day."""
    for stage, mode in (("prod", "FunctionUpdate"), ("dev", None)):
        for function in resources[stage].of_type("AWS::Lambda::Function").values():
            assert function["Properties"].get("RuntimeManagementConfig", {}).get("UpdateRuntimeOn") == mode
    for function in resources["shared"].of_type("AWS::Lambda::Function").values():
        pinned = {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": RUNTIME}
        assert function["Properties"]["RuntimeManagementConfig"] == pinned


def test_alarms_notify_a_topic_that_exists_already(resources: dict[str, Resources]) -> None:
    """aws.md 19."""
    gradual = resources["gradual"]
    assert gradual.of_type("AWS::SNS::Topic") == {}
    notified = [
        alarm["Properties"].get("AlarmActions")
        for id_, alarm in gradual.of_type("AWS::CloudWatch::Alarm").items()
        if not id_.startswith("GradualChanges")
    ]
    assert notified == [["arn:aws:sns:us-east-1:123456789012:ops"]] * 11


def test_backends_of_other_accounts_assume_a_role_that_may_send(resources: dict[str, Resources]) -> None:
    """aws.md 21."""
    shared = resources["shared"]
    output = shared.document["Outputs"]["BackendRoleArn"]["Value"]
    role = shared.all[output["Fn::GetAtt"][0]]["Properties"]
    (policy,) = shared.of_type("AWS::IAM::ManagedPolicy")
    assert role["ManagedPolicyArns"] == [{"Ref": policy}]
    trusted = [
        shared.name(principal)
        for statement in role["AssumeRolePolicyDocument"]["Statement"]
        for principal in _list(statement["Principal"]["AWS"])
    ]
    assert trusted == [f"arn:<partition>:iam::{account}:root" for account in ("111122223333", "444455556666")]


def test_a_role_of_another_stack_can_be_allowed_to_send(
    resources: dict[str, Resources], tmp_path: Path
) -> None:
    """aws.md 13: what CDK grants, CDK takes away again."""
    app = cdk.App(outdir=str(tmp_path), context=CONTEXT)
    stage = Stage.from_context("dev", SETTINGS)
    stack = WebSocketStack(app, "dev", stage=stage)
    backend = cdk.Stack(app, "backend")
    stack.backend.grant_send(
        iam.Role(backend, "Role", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
    )
    app.synth()
    document = json.loads((tmp_path / "backend.template.json").read_text())
    granted = {
        action
        for resource in document["Resources"].values()
        if resource["Type"] == "AWS::IAM::Policy"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
        for action in _list(statement["Action"])
    }
    assert granted == set().union(*resources["dev"].backend_rights().values())


def test_a_count_that_fails_is_not_retried(resources: dict[str, Resources]) -> None:
    """aws.md 24: EventBridge's retries are of the call, Lambda's of the function."""
    (config,) = resources["prod"].of_type("AWS::Lambda::EventInvokeConfig").values()
    assert config["Properties"]["MaximumRetryAttempts"] == 0
    assert config["Properties"]["MaximumEventAgeInSeconds"] == 300
    assert resources["prod"].name(config["Properties"]["FunctionName"]).endswith("websocketCount")


def test_the_record_of_a_domain_is_made_where_its_zone_is_named(resources: dict[str, Resources]) -> None:
    """aws.md 28: an alias record needs the target's zone as well."""
    (record,) = resources["vpc"].of_type("AWS::Route53::RecordSet").values()
    (domain,) = resources["vpc"].of_type("AWS::ApiGatewayV2::DomainName")
    assert record["Properties"] == {
        "Name": "ws.example.com",
        "Type": "A",
        "HostedZoneId": "Z0123456789",
        "AliasTarget": {
            "DNSName": {"Fn::GetAtt": [domain, "RegionalDomainName"]},
            "HostedZoneId": {"Fn::GetAtt": [domain, "RegionalHostedZoneId"]},
        },
    }
    outputs = resources["domain"].document["Outputs"]
    assert outputs["DomainTargetZoneId"]["Value"]["Fn::GetAtt"][1] == "RegionalHostedZoneId"


def test_the_money_is_of_the_time_that_is_shown(resources: dict[str, Resources]) -> None:
    """aws.md 30: a period of a day would start at midnight UTC."""
    (widget,) = [
        w["properties"]
        for w in resources["prod"].dashboard()["widgets"]
        if "US$" in w["properties"].get("title", "")
    ]
    assert widget["setPeriodToTimeRange"] is True
    assert widget["title"].endswith("at <region>'s prices")


def test_the_key_is_used_through_services_under_either_name(resources: dict[str, Resources]) -> None:
    """aws.md 34: in China some services call themselves ...amazonaws.com.cn and some do not."""
    (key,) = resources["own-key"].of_type("AWS::KMS::Key").values()
    (services,) = [
        statement["Condition"]["StringEquals"]["kms:ViaService"]
        for statement in key["Properties"]["KeyPolicy"]["Statement"]
        if statement["Principal"] == {"AWS": "*"}
    ]
    names = {resources["own-key"].name(service) for service in services}
    for service in ("dynamodb", "lambda", "secretsmanager", "sns", "sqs"):
        assert {f"{service}.<region>.amazonaws.com", f"{service}.<region>.<urlsuffix>"} <= names


def test_a_key_that_exists_is_used_as_it_is(resources: dict[str, Resources]) -> None:
    """aws.md 11: a kept table goes on with the key that it was made with."""
    given = resources["given-key"]
    assert given.of_type("AWS::KMS::Key") == {}
    for table in given.of_type("AWS::DynamoDB::Table").values():
        assert table["Properties"]["SSESpecification"]["KMSMasterKeyId"] == KEY


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_secret_is_drawn_once(resources: dict[str, Resources], stage: str) -> None:
    """aws.md 36: any change of these properties makes CloudFormation draw a new value."""
    (secret,) = resources[stage].of_type("AWS::SecretsManager::Secret").values()
    assert secret["Properties"]["GenerateSecretString"] == {"ExcludePunctuation": True, "PasswordLength": 64}


def test_an_alarm_that_fills_gaps_looks_at_two_periods(resources: dict[str, Resources]) -> None:
    """aws.md 37: FILL can pin an alarm of one period when its newest value comes late."""
    for alarm in resources["prod"].of_type("AWS::CloudWatch::Alarm").values():
        filled = any(
            "FILL" in query.get("Expression", "") for query in alarm["Properties"].get("Metrics", [])
        )
        assert alarm["Properties"]["EvaluationPeriods"] >= (2 if filled else 1)


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_only_the_fan_out_queue_may_use_its_dead_letter_queue(
    resources: dict[str, Resources], stage: str
) -> None:
    """aws.md 40."""
    (allowed,) = [
        queue["Properties"]["RedriveAllowPolicy"]
        for queue in resources[stage].of_type("AWS::SQS::Queue").values()
        if "RedriveAllowPolicy" in queue["Properties"]
    ]
    assert allowed["redrivePermission"] == "byQueue"
    (source,) = allowed["sourceQueueArns"]
    queue = f"landinghub-websocket-fanout-{stage}"
    assert resources[stage].name(source) == f"arn:<partition>:sqs:<region>:<accountid>:{queue}"


def test_a_stage_has_the_tags_that_it_says(assembly: Any) -> None:
    """aws.md 43."""
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    tags = artifacts["shared"]["properties"]["tags"]
    assert tags == {"cost-centre": "4711", "roomcast:stage": "shared"}


def test_the_reason_for_no_vpc_names_every_place_that_a_function_calls(
    resources: dict[str, Resources],
) -> None:
    """aws.md 44."""
    for function in resources["dev"].of_type("AWS::Lambda::Function").values():
        comments = {skip["id"]: skip["comment"] for skip in function["Metadata"]["checkov"]["skip"]}
        assert comments["CKV_AWS_117"] == "It calls only AWS's own endpoints."


@pytest.mark.parametrize("stage", ["prod", "gradual"])
def test_a_kept_stage_changes_its_functions_gradually(resources: dict[str, Resources], stage: str) -> None:
    """Calls go to an alias; CodeDeploy shifts it, and back on the alarm."""
    found = resources[stage]
    aliases = found.of_type("AWS::Lambda::Alias")
    assert len(aliases) == 4
    for alias in aliases.values():
        assert alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]
    (alarm,) = [id_ for id_ in found.of_type("AWS::CloudWatch::Alarm") if id_.startswith("GradualChanges")]
    groups = found.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    assert len(groups) == 4
    for group in groups:
        assert group["Properties"]["AlarmConfiguration"]["Alarms"] == [{"Name": {"Ref": alarm}}]
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["Properties"]["AutoRollbackConfiguration"]["Events"]
    called = [
        json.dumps(integration["Properties"]["IntegrationUri"])
        for integration in found.of_type("AWS::ApiGatewayV2::Integration").values()
    ]
    (mapping,) = found.of_type("AWS::Lambda::EventSourceMapping").values()
    called.append(json.dumps(mapping["Properties"]["FunctionName"]))
    assert len(called) == 4
    assert all(any(f'"{alias}"' in target for alias in aliases) for target in called)


@pytest.mark.parametrize("stage", ["dev", "local", "strict"])
def test_other_stages_change_at_once(resources: dict[str, Resources], stage: str) -> None:
    assert resources[stage].of_type("AWS::Lambda::Alias") == {}
    assert resources[stage].of_type("AWS::CodeDeploy::DeploymentGroup") == {}


@pytest.mark.parametrize("stage", sorted(SETTINGS))
def test_every_output_is_a_parameter_too(resources: dict[str, Resources], stage: str) -> None:
    """Pipelines and other stacks read them without this stack's outputs file."""
    found = resources[stage]
    prefix = SETTINGS[stage].get("prefix", "landinghub")
    parameters = {
        parameter["Properties"]["Name"]: parameter["Properties"]["Value"]
        for parameter in found.of_type("AWS::SSM::Parameter").values()
    }
    outputs = {
        f"/{prefix}-websocket-{stage}/{name}": output["Value"]
        for name, output in found.document["Outputs"].items()
    }
    assert parameters == outputs


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
