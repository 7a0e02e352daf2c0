"""`--stage`: the stack's outputs from CloudFormation, the secret from Secrets Manager."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import jwt
import pytest

from tests.builders import SECRET
from tests.fakes.management_api import FakeManagementApi
from tests.integration.cli.conftest import FakeCloudFormation
from tests.unit.cli.conftest import Roomcast

Deploy = Callable[..., None]

OUTPUTS = {
    "WebSocketAPIUrl": "wss://ws.example.com",
    "WebSocketCallbackUrl": "https://abc123.execute-api.us-east-1.amazonaws.com/prod",
    "ConnectionsTableName": "connections",
    "RoomsTableName": "rooms",
    "HistoryTableName": "history",
    "JwtSecretName": "landinghub-websocket-prod",
}


@pytest.fixture
def deploy(cloudformation: type[FakeCloudFormation], secrets: Any) -> Iterator[Deploy]:
    """Makes a stack that has outputs, and the secret that one of them names."""

    def create(name: str = "landinghub-websocket-prod", **outputs: str) -> None:
        cloudformation.stacks[name] = outputs

    secrets.create_secret(Name=OUTPUTS["JwtSecretName"], SecretString=SECRET)
    yield create
    secrets.delete_secret(SecretId=OUTPUTS["JwtSecretName"], ForceDeleteWithoutRecovery=True)


def test_env_asks_cloudformation(roomcast: Roomcast, deploy: Deploy) -> None:
    """aws.md 4: browsers connect to a domain, and backends post to API Gateway itself."""
    deploy(**OUTPUTS)
    assert roomcast("env", "--stage", "prod").code == 0
    assert Path(".env").read_text() == (
        "WEBSOCKET_API_ENDPOINT=wss://abc123.execute-api.us-east-1.amazonaws.com/prod\n"
        "WEBSOCKET_CONNECTIONS_TABLE=connections\n"
        "WEBSOCKET_ROOMS_TABLE=rooms\n"
        "WEBSOCKET_HISTORY_TABLE=history\n"
        "WEBSOCKET_JWT_SECRET_NAME=landinghub-websocket-prod\n"
        "AWS_REGION=us-east-1\n"
        "REACT_APP_WEBSOCKET_URL=wss://ws.example.com\n"
        "VITE_WEBSOCKET_URL=wss://ws.example.com\n"
        "NEXT_PUBLIC_WEBSOCKET_URL=wss://ws.example.com\n"
    )


def test_the_token_is_signed_with_the_stages_secret(roomcast: Roomcast, deploy: Deploy) -> None:
    deploy(**OUTPUTS)
    answer = roomcast("token", "--user", "u1", "--stage", "prod")
    assert jwt.decode(answer.out.strip(), SECRET, algorithms=["HS256"])["userId"] == "u1"


def test_a_send_goes_to_the_stage(
    roomcast: Roomcast, deploy: Deploy, dynamodb: Any, api: FakeManagementApi
) -> None:
    deploy(**OUTPUTS | {"WebSocketCallbackUrl": api.endpoint})
    answer = roomcast("send", "all", "x", "1", "--stage", "prod")
    assert answer.out.startswith("sent 0  gone 0  failed 0"), answer.err


def test_another_stacks_name(roomcast: Roomcast, deploy: Deploy) -> None:
    deploy("acme-roomcast", **OUTPUTS)
    assert roomcast("token", "--user", "u1", "--stack", "acme-roomcast").code == 0


def test_a_backend_in_the_stack_of_another_app(roomcast: Roomcast, deploy: Deploy) -> None:
    deploy("shop", Bucket="b", **{f"Realtime{name}": value for name, value in OUTPUTS.items()})
    assert roomcast("env", "--stack", "shop").code == 0
    assert "WEBSOCKET_CONNECTIONS_TABLE=connections\n" in Path(".env").read_text()


def test_of_several_backends_in_a_stack_one_is_named(roomcast: Roomcast, deploy: Deploy) -> None:
    other = {f"Orders{name}": value for name, value in OUTPUTS.items()} | {"OrdersRoomsTableName": "r2"}
    deploy("shop", **{f"Chat{name}": value for name, value in OUTPUTS.items()}, **other)
    answer = roomcast("env", "--stack", "shop")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "stack shop: it has several backends: Chat, Orders; name one with --stack shop/NAME" in answer.err
    assert roomcast("env", "--stack", "shop/Orders").code == 0
    assert "WEBSOCKET_ROOMS_TABLE=r2\n" in Path(".env").read_text()
    answer = roomcast("env", "--stack", "shop/Nobody")
    assert "stack shop: it has no backend Nobody, but: Chat, Orders" in answer.err


def test_a_stage_that_is_not_deployed_is_one_line(roomcast: Roomcast, deploy: Deploy) -> None:
    answer = roomcast("env", "--stage", "prod")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "no stack landinghub-websocket-prod in us-east-1" in answer.err
    assert not Path(".env").exists()


def test_a_stack_of_something_else_names_what_it_lacks(roomcast: Roomcast, deploy: Deploy) -> None:
    deploy(WebSocketAPIUrl=OUTPUTS["WebSocketAPIUrl"])
    answer = roomcast("send", "all", "x", "1", "--stage", "prod")
    assert answer.code == 1
    assert "ConnectionsTableName, RoomsTableName, HistoryTableName, JwtSecretName" in answer.err


def test_the_region_comes_from_the_url_where_none_is_set(
    roomcast: Roomcast, aws: botocore.session.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = aws.create_client("secretsmanager", region_name="eu-west-1")
    client.create_secret(Name="jwt-eu", SecretString=SECRET)
    outputs = OUTPUTS | {
        "WebSocketCallbackUrl": "https://abc123.execute-api.eu-west-1.amazonaws.com/prod",
        "JwtSecretName": "jwt-eu",
    }
    Path("outputs.json").write_text(json.dumps({"landinghub-websocket-prod": outputs}))
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    answer = roomcast("token", "--user", "u1", "--stage", "prod", "--outputs", "outputs.json")
    client.delete_secret(SecretId="jwt-eu", ForceDeleteWithoutRecovery=True)
    assert answer.code == 0, answer.err


def test_without_any_region_it_is_one_line(roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    answer = roomcast("env", "--stage", "prod")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "region" in answer.err
