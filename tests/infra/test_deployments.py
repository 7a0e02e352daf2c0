"""Deployments that fail, are repeated, taken away and changed: none ends in a state that blocks the next.

`make deploy` is `roomcast unblock` (`roomcast_dev/cli/stack_state.py`, which runs here unchanged) and then
`cdk deploy --import-existing-resources`, which the simulator plays.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import aws_cdk as cdk
import pytest

from roomcast_cdk.stage import Stage, settings_by_name
from roomcast_dev.cli import stack_state
from stacks.websocket_stack import WebSocketStack
from tests.infra.cloudformation import Cloud, CloudFormation, Document, Stack, order
from tests.infra.conftest import CERTIFICATE, CONTEXT, KEY, RUNTIME

pytestmark = pytest.mark.timeout(300)  # a hundred deployments each

PROD = CONTEXT["stages"]["prod"]
NAME = "landinghub-websocket-prod"
HERE, THERE = PROD["region"], "eu-central-1"
TABLES = [f"landinghub-websocket-{what}-prod" for what in ("connections", "history", "rooms")]

DOMAIN = {"domain_name": "ws.example.com", "domain_certificate_arn": CERTIFICATE}
TOGGLES: dict[str, dict[str, Any]] = {
    "keep_data": {"keep_data": False},
    "log_days": {"log_days": 30},
    "memory_mb": {"memory_mb": 1024},
    "throttle_rate": {"throttle_rate": 100, "throttle_burst": 100},
    "connect_rate": {"connect_rate": 100, "connect_burst": 100},
    "fanout_concurrency": {"fanout_concurrency": 5, "fanout_rate": 500},
    "fanout_http2": {"fanout_http2": True},
    "gateway_logs": {"gateway_logs": False},
    "monitoring": {"monitoring": False},
    "allowed_origins": {"allowed_origins": ["https://www.acme.test"]},
    "browsers_only": {"browsers_only": True},
    "max_connections_per_user": {"max_connections_per_user": 3, "over_max_connections": "refuse_new"},
    "actions_per_second": {"actions_per_second": 5, "actions_burst": 5},
    "sends_per_second": {"sends_per_second": 1, "signals_per_second": 1},
    "last_value_window": {"last_value_window": 5},
    "jwt_secret_name": {"jwt_secret_name": "shared/jwt"},
    "jwt_secret_key_arn": {"jwt_secret_name": "shared/jwt", "jwt_secret_key_arn": KEY},
    "jwt_claims": {"jwt_claims": {"user": "user_id"}},
    "jwt_audience": {"jwt_audience": "a", "jwt_issuer": "i", "jwt_max_lifetime": 3600},
    "account_requests_per_second": {"account_requests_per_second": 20_000, "fanout_share": 0.5},
    "account_concurrency": {"account_concurrency": 500},
    "reserved_connects": {"reserved_connects": 50},
    "runtime_version_arn": {"runtime_version_arn": RUNTIME},
    "gradual_changes": {"gradual_changes": False},
    "server_events": {"server_events": ["connected", "left"], "event_bus": "audit"},
    "alarm_email": {"alarm_email": "ops@example.com"},
    "alarm_topic_arn": {"alarm_topic_arn": "arn:aws:sns:us-east-1:123456789012:ops"},
    "customer_key": {"customer_key": True},
    "customer_key_arn": {"customer_key": True, "customer_key_arn": KEY},
    "domain_name": DOMAIN,
    "domain_path": {**DOMAIN, "domain_path": "v1"},
    "hosted_zone_id": {**DOMAIN, "hosted_zone_id": "Z0123456789"},
    "callback_at_domain": {**DOMAIN, "callback_at_domain": True},
    "backend_roles": {"backend_roles": ["orders"]},
    "backend_accounts": {"backend_accounts": ["444455556666"]},
    "tags": {"tags": {"cost-centre": "4711"}},
}
"""What `prod` may be changed to and back again: one entry for each setting."""

NOT_TOGGLED = {
    *("account", "region", "prefix"),  # another place or name is another stack
    *("jwt_algorithm", "jwks_url"),  # other code in the functions; synthesis would download packages for it
}

Synthesized = Callable[..., Document]


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    """The template of `prod` with some settings changed."""
    known: dict[str, Document] = {}

    def template(**changes: Any) -> Document:
        key = json.dumps(changes)
        if key not in known:
            outdir = tmp_path_factory.mktemp("cdk")
            app = cdk.App(outdir=str(outdir), context=CONTEXT)
            WebSocketStack(app, NAME, stage=Stage.from_settings("prod", PROD | changes))
            app.synth()
            known[key] = json.loads((Path(outdir) / f"{NAME}.template.json").read_text())
        return known[key]

    return template


@pytest.fixture
def cloud() -> Cloud:
    """An account that has given API Gateway a role for logs in its regions, as `prod` needs."""
    account = Cloud()
    account.gateway_role |= {HERE, THERE}
    return account


@pytest.fixture
def here(cloud: Cloud) -> CloudFormation:
    return CloudFormation(cloud, HERE)


def unblock(at: CloudFormation) -> None:
    """What `roomcast unblock --stage prod --yes` does."""

    def sleep(seconds: float) -> None:
        at.cloud.now += timedelta(seconds=seconds)

    said: list[str] = []
    stack_state.clear(
        cast("Any", at),
        NAME,
        confirm=lambda question: True,
        say=said.append,
        now=lambda: at.cloud.now,
        sleep=sleep,
    )


def make_deploy(at: CloudFormation, template: Document, **faults: str | None) -> Stack:
    """What `make deploy STAGE=prod YES=1` does."""
    unblock(at)
    return at.deploy(NAME, template, protect=True, adopt=True, **faults)


def destroy(at: CloudFormation) -> None:
    """What docs/operations.md says: take the protection off, then `make destroy`."""
    at.update_termination_protection(StackName=NAME, EnableTerminationProtection=False)
    at.delete_stack(StackName=NAME)


def orphans(cloud: Cloud) -> list[str]:
    return sorted(f"{p.kind} {p.name}" for p in cloud.orphans())


def test_a_first_deployment_that_fails_anywhere_is_followed_by_one_that_succeeds(
    synthesized: Synthesized,
) -> None:
    template = synthesized()
    assert len(order(template)) > 50
    for id_ in order(template):
        cloud = Cloud()
        cloud.gateway_role.add(HERE)
        at = CloudFormation(cloud, HERE)
        failed = make_deploy(at, template, fail_at=id_)
        assert failed.status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"), id_
        again = make_deploy(at, template)
        assert (again.status, again.reason) == ("CREATE_COMPLETE", ""), id_
        assert again.protected
        assert orphans(cloud) == [], f"left behind by a failure at {id_}"


def test_it_succeeds_after_any_number_of_failures(
    cloud: Cloud, here: CloudFormation, synthesized: Synthesized
) -> None:
    template = synthesized()
    for id_ in reversed(order(template)):
        if (
            template["Resources"][id_]["Type"] != "AWS::DynamoDB::Table"
        ):  # adopted, so not made, from the second on
            make_deploy(here, template, fail_at=id_)
    assert make_deploy(here, template).status == "CREATE_COMPLETE"
    assert orphans(cloud) == []


def test_an_account_without_the_role_for_logs_fails_and_succeeds_once_it_has_it(
    synthesized: Synthesized,
) -> None:
    cloud = Cloud()
    at = CloudFormation(cloud, HERE)
    assert make_deploy(at, synthesized()).reason.startswith("CloudWatch Logs role ARN must be set")
    cloud.gateway_role.add(at.region)
    assert make_deploy(at, synthesized()).status == "CREATE_COMPLETE"


def test_an_update_that_fails_anywhere_is_followed_by_one_that_succeeds(synthesized: Synthesized) -> None:
    before, after = synthesized(), synthesized(**DOMAIN, memory_mb=1024)
    for id_ in order(after):
        cloud = Cloud()
        cloud.gateway_role.add(HERE)
        at = CloudFormation(cloud, HERE)
        make_deploy(at, before)
        failed = make_deploy(at, after, fail_at=id_)
        assert failed.status in ("UPDATE_ROLLBACK_COMPLETE", "UPDATE_COMPLETE"), id_
        assert make_deploy(at, after).status == "UPDATE_COMPLETE", id_
        assert orphans(cloud) == [], id_


def test_an_update_whose_rollback_fails_is_followed_by_one_that_succeeds(
    here: CloudFormation, synthesized: Synthesized
) -> None:
    make_deploy(here, synthesized())
    after = synthesized(memory_mb=1024)
    (connect,) = (
        id_
        for id_ in after["Resources"]
        if id_.startswith("WebSocketOnConnectFunction")
        and after["Resources"][id_]["Type"] == "AWS::Lambda::Function"
    )
    (default,) = (
        id_
        for id_ in after["Resources"]
        if id_.startswith("WebSocketOnMessageFunction")
        and after["Resources"][id_]["Type"] == "AWS::Lambda::Function"
    )
    first, last = sorted((connect, default), key=order(after).index)
    stuck = make_deploy(here, after, fail_at=last, fail_rollback_at=first)
    assert stuck.status == "UPDATE_ROLLBACK_FAILED"
    assert make_deploy(here, after).status == "UPDATE_COMPLETE"


def test_a_destroyed_stage_is_deployed_again_with_its_tables(
    cloud: Cloud, here: CloudFormation, synthesized: Synthesized
) -> None:
    template = synthesized()
    make_deploy(here, template)
    tables = [cloud.find("AWS::DynamoDB::Table", name, here.region) for name in TABLES]
    destroy(here)
    again = make_deploy(here, template)  # at once: the queue's name is waited for
    assert (again.status, again.reason) == ("CREATE_COMPLETE", "")
    adopted = [again.resources[id_] for id_ in again.resources if id_.startswith("Tables")]
    assert sorted(adopted, key=lambda table: table.name) == tables
    assert all(table is not None and table.drift == set() for table in tables)


def test_a_destroyed_stage_leaves_its_data_and_nothing_else(
    cloud: Cloud, here: CloudFormation, synthesized: Synthesized
) -> None:
    make_deploy(here, synthesized())
    destroy(here)
    assert {p.kind for p in cloud.everything} == {
        "AWS::DynamoDB::Table",
        "AWS::Logs::LogGroup",
        "AWS::SQS::Queue",  # the dead-letter queue
        "AWS::SecretsManager::Secret",
    }


def test_a_policy_that_somebody_has_attached_is_no_dead_end(
    cloud: Cloud, here: CloudFormation, synthesized: Synthesized
) -> None:
    stack = make_deploy(here, synthesized())
    (policy,) = (p for p in stack.resources.values() if p.kind == "AWS::IAM::ManagedPolicy")
    cloud.attached.add(policy.name)
    destroy(here)
    assert stack.status == "DELETE_FAILED"
    assert make_deploy(here, synthesized()).status == "CREATE_COMPLETE"


def test_the_same_stage_runs_in_a_second_region(
    cloud: Cloud, here: CloudFormation, synthesized: Synthesized
) -> None:
    there = CloudFormation(cloud, THERE)
    for at in (here, there):
        stack = make_deploy(at, synthesized(region=at.region))
        assert (stack.status, stack.reason) == ("CREATE_COMPLETE", "")


def test_each_setting_is_tried() -> None:
    tried = {key for changes in TOGGLES.values() for key in changes}
    assert tried | NOT_TOGGLED == set(settings_by_name())


@pytest.mark.parametrize("setting", TOGGLES)
def test_a_setting_is_switched_on_and_off_and_on(
    here: CloudFormation, synthesized: Synthesized, setting: str
) -> None:
    changed = TOGGLES[setting]
    make_deploy(here, synthesized())
    for changes in (changed, {}, changed, {}):
        stack = make_deploy(here, synthesized(**changes))
        assert (stack.status, stack.reason) == ("UPDATE_COMPLETE", ""), changes
        tables = [p.name for p in stack.resources.values() if p.kind == "AWS::DynamoDB::Table"]
        assert sorted(tables) == TABLES
    assert {p.name for p in here.cloud.everything if p.kind == "AWS::DynamoDB::Table"} == set(TABLES)


def test_a_kept_group_with_a_fixed_name_would_be_found(
    here: CloudFormation, synthesized: Synthesized
) -> None:
    on, off = synthesized(), synthesized(gateway_logs=False)
    on = json.loads(json.dumps(on))
    (group,) = (
        r
        for r in on["Resources"].values()
        if r["Type"] == "AWS::Logs::LogGroup" and "LogGroupName" in r["Properties"]
    )
    group["DeletionPolicy"] = "Retain"
    make_deploy(here, on)
    make_deploy(here, off)
    assert make_deploy(here, on).reason.endswith("already exists")


def test_a_table_left_by_an_unadopted_creation_would_be_found(
    here: CloudFormation, synthesized: Synthesized
) -> None:
    template = synthesized()
    here.deploy(NAME, template, fail_at=order(template)[-1])
    assert here.deploy(NAME, template).reason == f"{TABLES[0]} already exists"


def test_with_a_key_of_its_own_a_failure_leaves_the_key_that_the_tables_need(
    synthesized: Synthesized,
) -> None:
    template = synthesized(customer_key=True, **DOMAIN, backend_accounts=["444455556666"])
    for id_ in order(template):
        cloud = Cloud()
        cloud.gateway_role.add(HERE)
        at = CloudFormation(cloud, HERE)
        make_deploy(at, template, fail_at=id_)
        kept = {
            p.properties["SSESpecification"]["KMSMasterKeyId"] for p in cloud.orphans("AWS::DynamoDB::Table")
        }
        again = make_deploy(at, template)
        assert again.status == "CREATE_COMPLETE", (id_, again.reason)
        tables = [p for p in again.resources.values() if p.kind == "AWS::DynamoDB::Table"]
        # What is in them stays readable: the key is there, and they go on using it.
        assert {name for table in tables for name in table.drift} <= {"SSESpecification"}
        assert {p.kind for p in cloud.orphans()} <= {"AWS::KMS::Key"}
        keys = {p.name for p in cloud.everything if p.kind == "AWS::KMS::Key"}
        assert {arn.rpartition("/")[2] for arn in kept} <= keys
