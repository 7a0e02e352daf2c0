"""moto in the process: the tables, the secret, and the environment that the functions get."""

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from moto import mock_aws

from roomcast import WebSocketService
from roomcast.functions.cold_start import wiring
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.builders import APP, SECRET, create_tables
from tests.fakes.management_api import FakeManagementApi
from tests.support.moto_http import moto_over_http


@pytest.fixture(scope="session")
def aws() -> Iterator[botocore.session.Session]:
    """One mocked AWS and one session for all tests: reading botocore's models takes longer than a test."""
    with mock_aws(), moto_over_http():
        yield botocore.session.get_session()


@pytest.fixture(scope="session")
def dynamodb_client(aws: botocore.session.Session) -> Any:
    return aws.create_client("dynamodb")


@pytest.fixture
def dynamodb(dynamodb_client: Any) -> Iterator[Any]:
    create_tables(dynamodb_client)
    yield dynamodb_client
    for table in ("connections", "rooms", "history"):
        dynamodb_client.delete_table(TableName=table)


@pytest.fixture
def rows(dynamodb: Any) -> Any:
    """All items of a table, as plain dictionaries of their first value. Members of inboxes, which every
    connection has, are left out, unless they are asked for."""

    def read(table: str, *, inboxes: bool = False) -> list[dict[str, Any]]:
        items = dynamodb.scan(TableName=table)["Items"]
        plain = [{key: next(iter(value.values())) for key, value in item.items()} for item in items]
        if not inboxes:
            for item in plain:
                if rooms := [name for name in item.pop("rooms", ()) if not name.startswith("user_")]:
                    item["rooms"] = rooms
        return [i for i in plain if inboxes or not i.get("room", "").startswith("user_")]

    return read


@pytest.fixture
def store(dynamodb: Any) -> Store:
    return Store(Tables(dynamodb, "connections", "rooms", history="history"), APP.rooms)


@pytest.fixture(scope="session")
def secrets(aws: botocore.session.Session) -> Any:
    return aws.create_client("secretsmanager")


@pytest.fixture
def api() -> Iterator[FakeManagementApi]:
    with FakeManagementApi() as api:
        yield api


@pytest.fixture
def functions(
    dynamodb: Any, secrets: Any, api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The three functions, cold, with the environment that the stack gives them."""
    secrets.create_secret(Name="jwt", SecretString=SECRET)
    monkeypatch.setenv("WEBSOCKET_CONNECTIONS_TABLE", "connections")
    monkeypatch.setenv("WEBSOCKET_ROOMS_TABLE", "rooms")
    monkeypatch.setenv("WEBSOCKET_HISTORY_TABLE", "history")
    monkeypatch.setenv("WEBSOCKET_ROOMS", APP.rooms.dumps())
    monkeypatch.setenv("WEBSOCKET_APPLICATION", "lambdas.app")
    monkeypatch.setenv("WEBSOCKET_JWT_SECRET_NAME", "jwt")
    monkeypatch.setenv("WEBSOCKET_API_ENDPOINT", api.endpoint)
    wiring.cache_clear()
    yield
    wiring().management_api.close()
    secrets.delete_secret(SecretId="jwt", ForceDeleteWithoutRecovery=True)


@pytest.fixture
def service(functions: None) -> Iterator[WebSocketService]:
    service = WebSocketService.from_env()
    yield service
    service.close()
