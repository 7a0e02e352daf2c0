"""Facts of the templates that one would regret losing."""

import json
from typing import Any

import pytest
from aws_cdk.assertions import Match, Template

from roomcast.settings import Settings, TokenRules
from tests.builders import APP
from tests.infra.conftest import CERTIFICATE, CONTEXT
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
def test_the_history_table_holds_messages_by_number_and_expires_them(
    templates: dict[str, Template], stage: str
) -> None:
    templates[stage].has_resource_properties(
        "AWS::DynamoDB::Table",
        {
            "TableName": f"landinghub-websocket-history-{stage}",
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [
                {"AttributeName": "stream", "KeyType": "HASH"},
                {"AttributeName": "seq", "KeyType": "RANGE"},
            ],
            "AttributeDefinitions": [
                {"AttributeName": "stream", "AttributeType": "S"},
                {"AttributeName": "seq", "AttributeType": "N"},
            ],
            "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        },
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_table_keeps_its_logical_id(resources: dict[str, Resources], stage: str) -> None:
    """CloudFormation would replace a table whose logical id changes, and lose who is connected."""
    tables = resources[stage].of_type("AWS::DynamoDB::Table")
    assert {id_: table["Properties"]["TableName"] for id_, table in tables.items()} == {
        "TablesConnectionsF6D675B1": f"landinghub-websocket-connections-{stage}",
        "TablesRooms119D85BA": f"landinghub-websocket-rooms-{stage}",
        "TablesHistory40CCE7D9": f"landinghub-websocket-history-{stage}",
    }


@pytest.mark.parametrize("stage", ["prod", "dev", "local"])
def test_data_outlives_the_stack_where_the_stage_keeps_it(
    resources: dict[str, Resources], stage: str
) -> None:
    """aws.md 2 and 12: a creation that fails removes what is still empty, except for protected tables."""
    found = resources[stage]
    policies = {
        id_: (resource.get("DeletionPolicy", "Delete"), resource.get("UpdateReplacePolicy", "Delete"))
        for id_, resource in found.all.items()
    }
    kept = {
        id_ for kind in ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup") for id_ in found.of_type(kind)
    }
    kept |= {id_ for id_ in found.of_type("AWS::SQS::Queue") if "DeadLetters" in id_}
    # Its name is fixed: what stays of it would be in the way of the next one.
    kept -= {id_ for id_ in kept if "LogGroupName" in found.all[id_]["Properties"]}
    expected = dict.fromkeys(policies, ("Delete", "Delete"))
    if stage == "prod":
        expected |= dict.fromkeys(kept, ("RetainExceptOnCreate", "Retain"))
        expected |= dict.fromkeys(found.of_type("AWS::DynamoDB::Table"), ("Retain", "Retain"))
    assert policies == expected


@pytest.mark.parametrize(("stage", "on"), [("prod", True), ("dev", False)])
def test_kept_tables_can_be_restored_and_are_not_deleted_by_mistake(
    templates: dict[str, Template], stage: str, on: bool
) -> None:
    """aws.md 39: connections are not worth restoring, since clients reconnect."""
    templates[stage].all_resources_properties("AWS::DynamoDB::Table", {"DeletionProtectionEnabled": on})
    for what, restored in (("connections", False), ("rooms", on), ("history", on)):
        templates[stage].has_resource_properties(
            "AWS::DynamoDB::Table",
            {
                "TableName": f"landinghub-websocket-{what}-{stage}",
                "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": restored},
            },
        )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["Connect", "Disconnect", "Default", "Fanout"])
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
            "MemorySize": 1769 if name == "Fanout" else CONTEXT["stages"][stage]["memory_mb"],
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


TABLES = {
    "WEBSOCKET_CONNECTIONS_TABLE": "landinghub-websocket-connections-{}",
    "WEBSOCKET_ROOMS_TABLE": "landinghub-websocket-rooms-{}",
    "WEBSOCKET_HISTORY_TABLE": "landinghub-websocket-history-{}",
    "WEBSOCKET_ROOMS": APP.rooms.dumps().replace("{", "{{").replace("}", "}}"),
}
GATE = {
    "WEBSOCKET_API_ENDPOINT": "https://WebSocket/Api.execute-api.<region>.<urlsuffix>/{}",
    "WEBSOCKET_JWT_SECRET_NAME": "JwtSecret/Secret",
    "WEBSOCKET_JWT_ALGORITHM": "HS256",
    "WEBSOCKET_ALLOWED_ORIGINS": "https://www.example.com",
    "WEBSOCKET_BROWSERS_ONLY": "false",
    "WEBSOCKET_MAX_CONNECTIONS_PER_USER": "20",
    "WEBSOCKET_OVER_MAX_CONNECTIONS": "close_oldest",
    "WEBSOCKET_ACTIONS_PER_SECOND": "20",
    "WEBSOCKET_ACTIONS_BURST": "40",
    "WEBSOCKET_SENDS_PER_SECOND": "5",
    "WEBSOCKET_SIGNALS_PER_SECOND": "10",
    "WEBSOCKET_CONNECT_RATE": "300",
}
QUEUE = {"WEBSOCKET_FANOUT_QUEUE_URL": "landinghub-websocket-fanout-{}"}
FANOUT = {
    "WEBSOCKET_API_ENDPOINT": "https://WebSocket/Api.execute-api.<region>.<urlsuffix>/{}",
    "WEBSOCKET_FANOUT_RATE": "600",
    "WEBSOCKET_HTTP2": "false",
}


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("Connect", TABLES | GATE | QUEUE),
        ("Disconnect", TABLES | QUEUE),
        ("Default", TABLES | GATE | QUEUE | {"WEBSOCKET_APPLICATION": "app"}),
        ("Fanout", TABLES | FANOUT | QUEUE),
    ],
)
def test_a_function_is_told_what_it_needs(
    resources: dict[str, Resources], function: str, told: dict[str, str]
) -> None:
    environment = resources["prod"].environment(function)
    watched = {"WEBSOCKET_METRICS": "landinghub-websocket-prod"}
    assert environment == watched | {key: value.format("prod") for key, value in told.items()}
    Settings.from_env(environment)  # which takes every value


def test_a_stage_says_who_is_let_in_and_how_much_a_client_may_do(resources: dict[str, Resources]) -> None:
    for function in ("Connect", "Default"):
        settings = Settings.from_env(resources["strict"].environment(function))
        rules = TokenRules(audience="roomcast", issuer="https://login.example.com", max_lifetime=3600)
        assert settings.token_rules == rules
        assert settings.browsers_only
        assert (settings.max_connections, settings.when_over_max) == (3, "refuse_new")
        assert (settings.actions_per_second, settings.actions_burst) == (5, 10)


def test_a_setting_left_out_means_what_the_library_means_by_it(resources: dict[str, Resources]) -> None:
    told = Settings.from_env(resources["prod"].environment("Connect"))
    names = (
        "connections_table",
        "rooms_table",
        "rooms",
        "history_table",
        "callback_url",
        "jwt_secret_name",
        "allowed_origins",
        "connect_rate",
        "fanout_queue_url",
    )
    assert told == Settings(**{name: getattr(told, name) for name in names})


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
    level = "ERROR" if settings["gateway_logs"] else "OFF"
    # aws.md 16: detailed metrics are paid for each route, and nothing reads them.
    both = {"DetailedMetricsEnabled": False, "LoggingLevel": level, "DataTraceEnabled": False}
    templates[stage].has_resource_properties(
        "AWS::ApiGatewayV2::Stage",
        {
            "StageName": stage,
            "AutoDeploy": True,
            "DefaultRouteSettings": {
                "ThrottlingRateLimit": settings["throttle_rate"],
                "ThrottlingBurstLimit": settings["throttle_burst"],
                **both,
            },
            "RouteSettings": {
                "$connect": {
                    "ThrottlingRateLimit": settings["connect_rate"],
                    "ThrottlingBurstLimit": settings["connect_burst"],
                    **both,
                }
            },
        },
    )


def test_the_stage_waits_for_the_routes_that_it_has_settings_for(resources: dict[str, Resources]) -> None:
    (serving,) = resources["prod"].of_type("AWS::ApiGatewayV2::Stage").values()
    assert set(resources["prod"].of_type("AWS::ApiGatewayV2::Route")) <= set(serving["DependsOn"])


def test_access_logs_hold_no_query_and_execution_logs_end(resources: dict[str, Resources]) -> None:
    prod = resources["prod"]
    (serving,) = prod.of_type("AWS::ApiGatewayV2::Stage").values()
    settings = serving["Properties"]["AccessLogSettings"]
    arn = "arn:<partition>:logs:<region>:<accountid>:log-group:WebSocket/AccessLog"
    assert prod.name(settings["DestinationArn"]) == arn
    variables = set(json.loads(settings["Format"]).values())
    assert "$context.requestId" in variables  # API Gateway refuses a format without it
    assert not [variable for variable in variables if "query" in variable.lower() or "path" in variable]
    # API Gateway would make the group of the execution log itself, and keep it for ever.
    groups = prod.of_type("AWS::Logs::LogGroup")
    named = {
        prod.name(g["Properties"]["LogGroupName"]): id_
        for id_, g in groups.items()
        if "LogGroupName" in g["Properties"]
    }
    assert set(named) == {"/aws/apigateway/WebSocket/Api/prod"}
    assert set(named.values()) <= set(serving["DependsOn"])


@pytest.mark.parametrize("stage", ["dev", "local"])
def test_a_stage_without_gateway_logs_needs_nothing_of_the_account(
    resources: dict[str, Resources], stage: str
) -> None:
    """In a fresh account API Gateway may write no logs, and a stage that wants some cannot be deployed."""
    (serving,) = resources[stage].of_type("AWS::ApiGatewayV2::Stage").values()
    assert "AccessLogSettings" not in serving["Properties"]
    assert resources[stage].of_type("AWS::ApiGateway::Account") == {}


def test_one_key_of_the_accounts_own_encrypts_all_that_is_stored(resources: dict[str, Resources]) -> None:
    own = resources["own-key"]
    ((id_, key),) = own.of_type("AWS::KMS::Key").items()
    assert key["Properties"]["EnableKeyRotation"] is True
    assert key["DeletionPolicy"] == "Retain"
    arn = {"Fn::GetAtt": [id_, "Arn"]}
    where = {
        "AWS::DynamoDB::Table": (
            "SSESpecification",
            {"KMSMasterKeyId": arn, "SSEEnabled": True, "SSEType": "KMS"},
        ),
        "AWS::SecretsManager::Secret": ("KmsKeyId", arn),
        "AWS::Logs::LogGroup": ("KmsKeyId", arn),
        "AWS::Lambda::Function": ("KmsKeyArn", arn),
        "AWS::SQS::Queue": ("KmsMasterKeyId", arn),
    }
    for kind, (property_, value) in where.items():
        found = own.of_type(kind).values()
        assert found
        assert [resource["Properties"].get(property_) for resource in found] == [value] * len(found)


def test_the_own_key_works_through_services_of_this_account_alone(resources: dict[str, Resources]) -> None:
    own = resources["own-key"]
    ((_, key),) = own.of_type("AWS::KMS::Key").items()
    for statement in key["Properties"]["KeyPolicy"]["Statement"]:
        if statement["Principal"] == {"AWS": "*"}:
            conditions = statement["Condition"]["StringEquals"]
            assert own.name(conditions["kms:CallerAccount"]) == "<accountid>"
            assert "kms:ViaService" in conditions
        elif "Service" in statement["Principal"]:
            assert statement["Condition"]


@pytest.mark.parametrize("stage", STAGES)
def test_without_a_key_of_its_own_a_stage_pays_for_none(templates: dict[str, Template], stage: str) -> None:
    templates[stage].resource_count_is("AWS::KMS::Key", 0)


def test_at_a_domain_of_its_own_no_url_names_the_stage(
    resources: dict[str, Resources], templates: dict[str, Template]
) -> None:
    templates["domain"].has_resource_properties(
        "AWS::ApiGatewayV2::DomainName",
        {
            "DomainName": "ws.example.com",
            "DomainNameConfigurations": [
                {"CertificateArn": CERTIFICATE, "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2"}
            ],
        },
    )
    templates["domain"].has_resource_properties(
        "AWS::ApiGatewayV2::ApiMapping", {"ApiMappingKey": "v1", "Stage": "domain"}
    )
    templates["domain"].has_output("WebSocketAPIUrl", {"Value": "wss://ws.example.com/v1"})
    templates["domain"].has_output("DomainTarget", {})
    # The right is on the API and its stage all the same.
    arn = "arn:<partition>:execute-api:<region>:<accountid>:WebSocket/Api/domain/POST/@connections/*"
    assert resources["domain"].rights("Default")[arn] == {"execute-api:ManageConnections"}


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
    assert len(names) >= 14
    assert all(name.startswith(("acme-", "/acme-")) for name in names)


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
        "HistoryTableName": f"landinghub-websocket-history-{stage}",
        "Rooms": APP.rooms.dumps(),
        "JwtSecretName": "JwtSecret/Secret",
        "FanOutQueueUrl": f"landinghub-websocket-fanout-{stage}",
        "DeadLettersQueueUrl": "FanOut/DeadLetters",
        "BackendPolicyArn": "BackendPolicy",
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


@pytest.mark.parametrize("stage", STAGES)
def test_the_queue_waits_for_its_worker_and_keeps_what_fails(
    resources: dict[str, Resources], stage: str
) -> None:
    queues = resources[stage].of_type("AWS::SQS::Queue")
    by_name = {queue["Properties"].get("QueueName"): queue["Properties"] for queue in queues.values()}
    queue, dead = by_name[f"landinghub-websocket-fanout-{stage}"], by_name[None]
    timeout = resources[stage].function("Fanout")["Timeout"]
    assert queue["VisibilityTimeout"] == 6 * timeout
    assert resources[stage].name(queue["RedrivePolicy"]["deadLetterTargetArn"]) == "FanOut/DeadLetters"
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    receiving = queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]
    assert (
        queue["MessageRetentionPeriod"] > 2 * receiving
    )  # or a job would be lost on its way to the dead-letter queue
    assert dead["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue["SqsManagedSseEnabled"] is dead["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize("stage", STAGES)
def test_no_queue_takes_a_request_without_tls(resources: dict[str, Resources], stage: str) -> None:
    closed = {
        policy["Properties"]["Queues"][0]["Ref"]
        for policy in resources[stage].of_type("AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if (statement["Effect"], statement["Action"], statement["Principal"])
        == ("Deny", "sqs:*", {"AWS": "*"})
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    assert closed == set(resources[stage].of_type("AWS::SQS::Queue"))


@pytest.mark.parametrize("stage", STAGES)
def test_the_workers_together_stay_under_their_share_of_the_accounts_requests(
    resources: dict[str, Resources], stage: str
) -> None:
    (mapping,) = resources[stage].of_type("AWS::Lambda::EventSourceMapping").values()
    properties = mapping["Properties"]
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert properties["BatchSize"] == 1
    workers = properties["ScalingConfig"]["MaximumConcurrency"]
    pace = int(resources[stage].environment("Fanout")["WEBSOCKET_FANOUT_RATE"])
    assert workers == CONTEXT["stages"][stage]["fanout_concurrency"]
    quota = 100_000 if stage == "local" else 10_000  # a laptop has no account to leave room in
    assert CONTEXT["stages"][stage].get("account_requests_per_second", 10_000) == quota
    assert workers * pace <= 0.7 * quota
