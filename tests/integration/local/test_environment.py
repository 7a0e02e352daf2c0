"""A person's environment: no profile, endpoint, proxy or locale of theirs reaches the local run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from roomcast_dev.local.aws import LocalSession
from roomcast_dev.local.environment import child_environment, pointed_at
from roomcast_dev.testing import WebSocketStack, run_stack
from tests.integration.local.conftest import PLAIN

NOWHERE = "http://127.0.0.1:9"
HOSTILE = {
    "AWS_PROFILE": "nope",
    "AWS_DEFAULT_PROFILE": "nope",
    "AWS_ENDPOINT_URL": NOWHERE,
    "AWS_ENDPOINT_URL_DYNAMODB": NOWHERE,
    "AWS_ENDPOINT_URL_SQS": NOWHERE,
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required",
    "AWS_SESSION_TOKEN": "of somebody",
    "AWS_ACCESS_KEY_ID": "of somebody",
    "AWS_REGION": "eu-north-1",
    "AWS_DEFAULT_REGION": "eu-north-1",
    "AWS_RETRY_MODE": "nonsense",
    "AWS_MAX_ATTEMPTS": "nonsense",
    "AWS_DEFAULTS_MODE": "nonsense",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "nonsense",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": NOWHERE,
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
    "AWS_DATA_PATH": "/nowhere",
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    "HTTP_PROXY": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "ALL_PROXY": NOWHERE,
    "http_proxy": NOWHERE,
    "https_proxy": NOWHERE,
    "all_proxy": NOWHERE,
    "LC_ALL": "C",
    "LANG": "ja_JP.SJIS",
    "PYTHONIOENCODING": "ascii",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "SSL_CERT_FILE": "/nowhere",
    "TERM": "dumb",
    "COLUMNS": "0",
    "JWT_SECRET": "a secret of production, not of this stage",
    "WEBSOCKET_CONNECTIONS_TABLE": "of-production",
    "WEBSOCKET_API_ENDPOINT": "wss://abc123.execute-api.us-east-1.amazonaws.com/prod",
}


@pytest.fixture(params=["config", *HOSTILE])
def hostile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One hostile variable, or a broken ~/.aws/config."""
    if request.param in HOSTILE:
        monkeypatch.setenv(request.param, HOSTILE[request.param])
        return
    broken = tmp_path / "config"
    broken.write_text("[default\nregion")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(broken))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(broken))


@pytest.mark.usefixtures("hostile")
def test_the_stacks_own_clients_reach_ministack(plain: WebSocketStack) -> None:
    assert plain.stack.outputs["EventsTable"] in plain.client("dynamodb").list_tables()["TableNames"]
    assert "QueueUrls" in LocalSession(plain.stack.ministack.url).create_client("sqs").list_queues()


@pytest.mark.usefixtures("hostile")
def test_a_backend_that_is_pointed_at_the_stack_reaches_it(
    plain: WebSocketStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own session, which reads the process's environment."""
    stack = {
        "AWS_ENDPOINT_URL": plain.stack.ministack.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    wanted = pointed_at(stack, os.environ)
    for name in set(os.environ) - set(wanted):
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    client: Any = botocore.session.Session().create_client("dynamodb")
    assert plain.stack.outputs["EventsTable"] in client.list_tables()["TableNames"]


@pytest.mark.usefixtures("hostile")
def test_a_client_of_the_plugin_connects(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("x", n=1)
    assert client.receive()["n"] == 1


def test_a_whole_stack_starts_and_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    with run_stack(PLAIN) as stack:
        client = stack.connect()
        client.send("x", do="say", text="名前", n=1)
        assert client.receive()["n"] == 1


def test_child_processes_get_what_programs_need_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SOMETHING_OF_MINE", "x")
    assert set(child_environment()) <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "PYTHONUTF8",
    }


def test_proxies_stay_for_other_hosts() -> None:
    environ = {"HTTPS_PROXY": NOWHERE, "no_proxy": "intern.example,localhost"}
    pointed = pointed_at({}, environ)
    assert pointed["HTTPS_PROXY"] == NOWHERE
    assert pointed["no_proxy"] == "intern.example,localhost,127.0.0.1,::1"
    assert pointed["NO_PROXY"] == "localhost,127.0.0.1,::1"
