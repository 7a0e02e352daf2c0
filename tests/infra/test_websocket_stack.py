"""Facts of the templates that one would regret losing."""

from typing import Any

import pytest
from aws_cdk.assertions import Match, Template

from tests.infra.conftest import CONTEXT
from tests.infra.resources import Resources

STAGES = sorted(CONTEXT["stages"])


@pytest.mark.parametrize("stage", STAGES)
def test_the_connections_table_is_landinghubs(templates: dict[str, Template], stage: str) -> None:
    templates[stage].has_resource_properties(
        "AWS::DynamoDB::Table",
        {
            "TableName": f"landinghub-websocket-connections-{stage}",
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "connectionId", "KeyType": "HASH"}],
            "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": "UserIdIndex",
                    "KeySchema": [{"AttributeName": "userId", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        },
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_rooms_table_holds_members_by_room_and_expires_them(
    templates: dict[str, Template], stage: str
) -> None:
    templates[stage].has_resource_properties(
        "AWS::DynamoDB::Table",
        {
            "TableName": f"landinghub-websocket-rooms-{stage}",
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [
                {"AttributeName": "room", "KeyType": "HASH"},
                {"AttributeName": "member", "KeyType": "RANGE"},
            ],
            "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
            "GlobalSecondaryIndexes": Match.absent(),
        },
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_table_keeps_its_logical_id(resources: dict[str, Resources], stage: str) -> None:
    """CloudFormation would replace a table whose logical id changes, and lose who is connected."""
    tables = resources[stage].of_type("AWS::DynamoDB::Table")
    assert {id_: table["Properties"]["TableName"] for id_, table in tables.items()} == {
        "TablesConnectionsF6D675B1": f"landinghub-websocket-connections-{stage}",
        "TablesRooms119D85BA": f"landinghub-websocket-rooms-{stage}",
    }


@pytest.mark.parametrize(("stage", "policy"), [("prod", "Retain"), ("dev", "Delete"), ("local", "Delete")])
def test_data_outlives_the_stack_where_the_stage_keeps_it(
    resources: dict[str, Resources], stage: str, policy: str
) -> None:
    kept = ("AWS::DynamoDB::Table", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup")
    for kind in kept:
        for resource in resources[stage].of_type(kind).values():
            assert resource["DeletionPolicy"] == policy
            assert resource["UpdateReplacePolicy"] == policy
    others = {
        resource["Type"] for resource in resources[stage].all.values() if "DeletionPolicy" in resource
    } - set(kept)
    assert others == set()


@pytest.mark.parametrize(("stage", "on"), [("prod", True), ("dev", False)])
def test_kept_tables_can_be_restored_and_are_not_deleted_by_mistake(
    templates: dict[str, Template], stage: str, on: bool
) -> None:
    templates[stage].all_resources_properties(
        "AWS::DynamoDB::Table",
        {
            "DeletionProtectionEnabled": on,
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": on},
        },
    )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["Connect", "Disconnect", "Default"])
def test_a_function_has_landinghubs_name_and_handler(
    templates: dict[str, Template], stage: str, name: str
) -> None:
    templates[stage].has_resource_properties(
        "AWS::Lambda::Function",
        {
            "FunctionName": f"landinghub-backend-{stage}-websocket{name}",
            "Handler": f"{name.lower()}.handler",
            "Runtime": "python3.13",
            "Architectures": ["arm64"],
            "MemorySize": CONTEXT["stages"][stage]["memory_mb"],
            "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "WARN"},
        },
    )


@pytest.mark.parametrize("stage", STAGES)
def test_each_function_has_a_role_and_a_log_group_of_its_own(
    resources: dict[str, Resources], stage: str
) -> None:
    functions = resources[stage].of_type("AWS::Lambda::Function").values()
    roles = [str(function["Properties"]["Role"]) for function in functions]
    groups = [str(function["Properties"]["LoggingConfig"]["LogGroup"]) for function in functions]
    assert len(set(roles)) == len(set(groups)) == len(functions)


@pytest.mark.parametrize("stage", STAGES)
def test_every_log_ends(templates: dict[str, Template], stage: str) -> None:
    days = CONTEXT["stages"][stage]["log_days"]
    templates[stage].all_resources_properties("AWS::Logs::LogGroup", {"RetentionInDays": days})


def test_the_functions_are_told_their_tables_their_secret_and_the_origins(
    resources: dict[str, Resources],
) -> None:
    prod = resources["prod"]
    both = {
        "WEBSOCKET_CONNECTIONS_TABLE": "landinghub-websocket-connections-prod",
        "WEBSOCKET_ROOMS_TABLE": "landinghub-websocket-rooms-prod",
    }

    def told(function: str) -> dict[str, str]:
        variables = prod.function(function)["Environment"]["Variables"]
        return {key: prod.name(value) for key, value in variables.items()}

    assert told("Connect") == both | {
        "WEBSOCKET_JWT_SECRET_NAME": "JwtSecret/Secret",
        "WEBSOCKET_ALLOWED_ORIGINS": "https://www.example.com",
    }
    assert told("Disconnect") == both
    assert told("Default") == both


@pytest.mark.parametrize("stage", STAGES)
def test_the_api_has_three_routes_and_only_default_answers(
    resources: dict[str, Resources], stage: str
) -> None:
    routes = {
        route["Properties"]["RouteKey"]: (id_, route["Properties"].get("RouteResponseSelectionExpression"))
        for id_, route in resources[stage].of_type("AWS::ApiGatewayV2::Route").items()
    }
    assert {key: answers for key, (_, answers) in routes.items()} == {
        "$connect": None,
        "$disconnect": None,
        "$default": "$default",
    }
    (response,) = resources[stage].of_type("AWS::ApiGatewayV2::RouteResponse").values()
    assert response["Properties"]["RouteId"] == {"Ref": routes["$default"][0]}
    assert response["Properties"]["RouteResponseKey"] == "$default"


@pytest.mark.parametrize("stage", STAGES)
def test_the_route_is_chosen_by_the_action(templates: dict[str, Template], stage: str) -> None:
    templates[stage].has_resource_properties(
        "AWS::ApiGatewayV2::Api",
        {"ProtocolType": "WEBSOCKET", "RouteSelectionExpression": "$request.body.action"},
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_deploys_itself_and_has_throttles(templates: dict[str, Template], stage: str) -> None:
    settings = CONTEXT["stages"][stage]
    templates[stage].has_resource_properties(
        "AWS::ApiGatewayV2::Stage",
        {
            "StageName": stage,
            "AutoDeploy": True,
            "DefaultRouteSettings": {
                "ThrottlingRateLimit": settings["throttle_rate"],
                "ThrottlingBurstLimit": settings["throttle_burst"],
                "DetailedMetricsEnabled": True,
            },
        },
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_secret_is_made_by_aws_and_long_enough(templates: dict[str, Template], stage: str) -> None:
    templates[stage].has_resource_properties(
        "AWS::SecretsManager::Secret",
        {
            "GenerateSecretString": {"PasswordLength": 64, "ExcludePunctuation": True},
            "SecretString": Match.absent(),
        },
    )


def test_a_given_secret_is_used_instead_of_a_new_one(
    resources: dict[str, Resources], templates: dict[str, Template]
) -> None:
    templates["given-secret"].resource_count_is("AWS::SecretsManager::Secret", 0)
    given = resources["given-secret"]
    variables = given.function("Connect")["Environment"]["Variables"]
    assert variables["WEBSOCKET_JWT_SECRET_NAME"] == "shared/jwt"
    arn = "arn:<partition>:secretsmanager:<region>:<accountid>:secret:shared/jwt-??????"
    assert given.rights("Connect")[arn] == {"secretsmanager:GetSecretValue"}
    templates["given-secret"].has_output("JwtSecretName", {"Value": "shared/jwt"})


def test_the_prefix_begins_every_name(resources: dict[str, Resources]) -> None:
    given = resources["given-secret"]
    names = [
        value
        for resource in given.all.values()
        for key, value in resource["Properties"].items()
        if key in ("TableName", "FunctionName", "QueueName", "Name") and isinstance(value, str)
    ]
    assert len(names) >= 6
    assert all(name.startswith("acme-") for name in names)


@pytest.mark.parametrize("stage", STAGES)
def test_the_outputs_are_what_the_env_files_are_filled_from(
    resources: dict[str, Resources], stage: str
) -> None:
    written = resources[stage].document["Outputs"]
    outputs = {name: resources[stage].name(output["Value"]) for name, output in written.items()}
    assert outputs == {
        "WebSocketAPIUrl": f"wss://WebSocket/Api.execute-api.<region>.<urlsuffix>/{stage}",
        "WebSocketCallbackUrl": f"https://WebSocket/Api.execute-api.<region>.<urlsuffix>/{stage}",
        "ConnectionsTableName": f"landinghub-websocket-connections-{stage}",
        "RoomsTableName": f"landinghub-websocket-rooms-{stage}",
        "JwtSecretName": "JwtSecret/Secret",
    }


@pytest.mark.parametrize("route", ["connect", "disconnect", "default"])
def test_only_this_api_may_call_a_function(resources: dict[str, Resources], route: str) -> None:
    prod = resources["prod"]
    callers = [
        (p["Principal"], prod.name(p["SourceArn"]))
        for p in (r["Properties"] for r in prod.of_type("AWS::Lambda::Permission").values())
        if prod.name(p["FunctionName"]) == f"landinghub-backend-prod-websocket{route.title()}"
    ]
    arn = f"arn:<partition>:execute-api:<region>:<accountid>:WebSocket/Api/*${route}"
    assert callers == [("apigateway.amazonaws.com", arn)]


def test_a_template_asks_nothing_but_for_the_bootstrap(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        assert set(document.get("Parameters", {})) == {"BootstrapVersion"}
