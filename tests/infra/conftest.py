"""The stages, synthesized once for all tests: starting CDK's Node process takes longer than the tests."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from roomcast_cdk.account_stack import Account, AccountStack
from roomcast_cdk.stage import ACCOUNT, Stage
from stacks import application
from stacks.websocket_stack import WebSocketStack
from tests.infra.resources import Resources

ROOT = Path(__file__).resolve().parents[2]
CONTEXT: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/6d0c8f9a-3b55-4c62-9a57-1f2e3d4c5b6a"

KEY = "arn:aws:kms:us-east-1:123456789012:key/6d0c8f9a-3b55-4c62-9a57-1f2e3d4c5b6b"

RUNTIME = f"arn:aws:lambda:us-east-1::runtime:{'0123456789abcdef' * 4}"

VARIANTS: dict[str, dict[str, Any]] = {
    "given-secret": {"jwt_secret_name": "shared/jwt", "prefix": "acme"},
    "own-key": {
        "customer_key": True,
        "gateway_logs": True,
        "keep_data": True,
        "monitoring": True,
        "account": "000000000000",
        "region": "us-east-1",
    },
    "given-key": {"customer_key": True, "customer_key_arn": KEY, "monitoring": True, "gateway_logs": True},
    "domain": {"domain_name": "ws.example.com", "domain_certificate_arn": CERTIFICATE, "domain_path": "v1"},
    "vpc": {
        "domain_name": "ws.example.com",
        "domain_certificate_arn": CERTIFICATE,
        "hosted_zone_id": "Z0123456789",
        "callback_at_domain": True,
    },
    "shared": {
        "backend_roles": ["orders", "billing"],
        "backend_accounts": ["111122223333", "444455556666"],
        "tags": {"cost-centre": "4711"},
        "jwt_secret_name": "shared/jwt",
        "jwt_secret_key_arn": KEY,
        "reserved_connects": 50,
        "runtime_version_arn": RUNTIME,
    },
    "events": {
        "server_events": ["connected", "disconnected", "joined", "left", "published"],
        "event_bus": "audit",
        "monitoring": True,
        "alarm_email": "ops@example.com",
    },
    "gradual": {
        "monitoring": True,
        "gradual_changes": True,
        "alarm_topic_arn": "arn:aws:sns:us-east-1:123456789012:ops",
    },
    "strict": {
        "monitoring": True,
        "alarm_email": "ops@example.com",
        "jwt_audience": "roomcast",
        "jwt_issuer": "https://login.example.com",
        "jwt_max_lifetime": 3600,
        "browsers_only": True,
        "max_connections_per_user": 3,
        "over_max_connections": "refuse_new",
        "actions_per_second": 5,
        "actions_burst": 10,
    },
}
"""Stages besides those of cdk.json: `dev` with some settings changed."""

SETTINGS: dict[str, Any] = CONTEXT["stages"] | {
    name: CONTEXT["stages"]["dev"] | changes for name, changes in VARIANTS.items()
}


BUDGET = {"monthly_budget_dollars": 100, "budget_email": "ops@example.com"}
"""The settings of the account's stack."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for the synthesis of all stages, which on a busy machine takes over a minute."""
    for item in items:
        if "tests/infra" in item.path.as_posix() and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session", autouse=True)
def _without_the_application() -> Iterator[None]:
    """The stacks here are Roomcast's. What the application adds is its own: `test_application.py` looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "add_resources", lambda scope, function: None)
        yield


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cloud assembly of all stages and variants, and of the account."""
    outdir = tmp_path_factory.mktemp("cdk") / "out"
    app = cdk.App(outdir=str(outdir), context=CONTEXT | {"aws:cdk:enable-path-metadata": True})
    for name in SETTINGS:
        WebSocketStack(app, name, stage=Stage.from_context(name, SETTINGS))
    AccountStack(app, ACCOUNT, account=Account.from_context(BUDGET))
    app.synth()
    return outdir


@pytest.fixture(scope="session")
def documents(assembly: Path) -> dict[str, dict[str, Any]]:
    """The templates as they would be deployed, by stage."""
    return {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in assembly.glob("*.template.json")
    }


@pytest.fixture(scope="session")
def templates(documents: dict[str, dict[str, Any]]) -> dict[str, Template]:
    """The same for CDK's assertions."""
    return {name: Template.from_json(document) for name, document in documents.items()}


@pytest.fixture(scope="session")
def prod(templates: dict[str, Template]) -> Template:
    return templates["prod"]


@pytest.fixture(scope="session")
def dev(templates: dict[str, Template]) -> Template:
    return templates["dev"]


@pytest.fixture(scope="session")
def resources(documents: dict[str, dict[str, Any]]) -> dict[str, Resources]:
    """The resources of each stage under the names that people know them by."""
    return {name: Resources(document) for name, document in documents.items()}
