"""The settings of a stage: what is wrong is named in one line."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roomcast.origins import normal
from roomcast.settings import ClaimNames, Settings
from roomcast_cdk.setting import StageError
from roomcast_cdk.stage import LOCAL, Stage, settings_by_name
from roomcast_cdk.tables import USER_INDEX
from roomcast_dev.cli import target
from stacks import reference
from tests.infra.conftest import CERTIFICATE, CONTEXT, KEY, ROOT

TOPIC = "arn:aws:sns:us-east-1:123456789012:ops"

GOOD = {
    "keep_data": False,
    "log_days": 7,
    "memory_mb": 256,
    "throttle_rate": 100,
    "throttle_burst": 50,
    "connect_rate": 10,
    "connect_burst": 10,
    "fanout_concurrency": 2,
    "fanout_rate": 500,
    "gateway_logs": False,
    "monitoring": False,
    "allowed_origins": ["https://www.example.com"],
}


def error(stage: object = "qa", **changes: object) -> str:
    settings: dict[str, Any] = GOOD | changes
    with pytest.raises(StageError) as caught:
        Stage.from_context(stage, {"qa": {k: v for k, v in settings.items() if v is not ...}})
    return str(caught.value)


@pytest.mark.parametrize("name", ["local", "dev", "prod"])
def test_the_stages_of_cdk_json_are_good(name: str) -> None:
    assert Stage.from_context(name, CONTEXT["stages"]).name == name


def test_names_are_those_of_landinghub() -> None:
    stage = Stage.from_settings("prod", GOOD)
    assert stage.stack_name == "landinghub-websocket-prod"
    assert stage.table_name("connections") == "landinghub-websocket-connections-prod"
    assert stage.function_name("Connect") == "landinghub-backend-prod-websocketConnect"
    assert Stage.from_settings("prod", GOOD | {"prefix": "acme"}).stack_name == "acme-websocket-prod"


@pytest.mark.parametrize(
    "origin",
    [
        *("https://WWW.example.com/", "https://bücher.example", "http://[::1]:3000", "capacitor://localhost"),
        *(
            "ionic://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnop",
            "moz-extension://a-b",
        ),
    ],
)
def test_pages_and_apps_may_be_let_in(origin: str) -> None:
    stage = Stage.from_settings("prod", GOOD | {"allowed_origins": [origin]})
    names = {"WEBSOCKET_CONNECTIONS_TABLE": "c", "WEBSOCKET_ROOMS_TABLE": "r"}
    assert Settings.from_env(names | stage.environment("clients")).allowed_origins == (normal(origin),)


@pytest.mark.parametrize(
    "port",
    [
        pytest.param(3000, id="next-dev-and-create-react-app"),
        pytest.param(4200, id="ng-serve"),
        pytest.param(4321, id="astro-dev"),
        pytest.param(5173, id="vite"),
        pytest.param(8080, id="vue-cli-and-webpack"),
        pytest.param(8081, id="expo"),
    ],
)
def test_dev_lets_in_the_usual_dev_servers(port: int) -> None:
    stage = Stage.from_context("dev", CONTEXT["stages"])
    names = {"WEBSOCKET_CONNECTIONS_TABLE": "c", "WEBSOCKET_ROOMS_TABLE": "r"}
    settings = Settings.from_env(names | stage.environment("clients"))
    assert f"http://localhost:{port}" in settings.allowed_origins


def test_the_names_of_claims_reach_the_functions() -> None:
    claims = {"user": "user_id", "role": "https://example.com/roles"}
    stage = Stage.from_settings("prod", GOOD | {"jwt_claims": claims})
    names = {"WEBSOCKET_CONNECTIONS_TABLE": "c", "WEBSOCKET_ROOMS_TABLE": "r"}
    rules = Settings.from_env(names | stage.environment("clients")).token_rules
    assert rules.claims == ClaimNames(**claims)


def test_a_login_service_on_the_laptop_may_speak_http() -> None:
    settings = {"jwks_url": "http://localhost:8080/certs", "jwt_algorithm": "RS256"}
    assert Stage.from_settings("local", GOOD | settings).jwks_url == settings["jwks_url"]


def test_the_longest_name_fits_a_function() -> None:
    stage = Stage.from_settings("s" * 15, GOOD | {"prefix": "p" * 20})
    assert len(stage.function_name("Disconnect")) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_days": 8}, "stages.qa.log_days: must be one of 1, 3, 5, 7, 14, 30, "),
        ({"log_days": True}, "stages.qa.log_days: must be one of "),
        ({"memory_mb": "256"}, "stages.qa.memory_mb: must be a whole number from 128 to 10240, not '256'"),
        ({"memory_mb": 64}, "stages.qa.memory_mb: must be a whole number from 128 to 10240, not 64"),
        ({"memory_mb": 256.5}, "stages.qa.memory_mb: must be a whole number"),
        ({"throttle_rate": 0}, "stages.qa.throttle_rate: must be a whole number from 1 to 100000, not 0"),
        (
            {"throttle_burst": None},
            "stages.qa.throttle_burst: must be a whole number from 1 to 50000, not None",
        ),
        ({"keep_data": "yes"}, "stages.qa.keep_data: must be true or false, not 'yes'"),
        ({"keep_data": ...}, "stages.qa.keep_data: is missing; it must be true or false"),
        ({"allowed_origins": []}, "stages.qa.allowed_origins: must be a list of origins such as"),
        ({"allowed_origins": "https://a.example"}, "stages.qa.allowed_origins: must be a list of origins"),
        (
            {"allowed_origins": ["https://a.example/b"]},
            "stages.qa.allowed_origins: must be a list of origins",
        ),
        ({"allowed_origins": ["null"]}, "stages.qa.allowed_origins: must be a list of origins"),
        ({"jwt_claims": {"users": "sub"}}, "stages.qa.jwt_claims: must be an object such as"),
        ({"jwt_claims": {"user": 7}}, "stages.qa.jwt_claims: must be an object such as"),
        (
            {"jwks_url": "http://localhost:8080/certs", "jwt_algorithm": "RS256"},
            "stages.qa.jwks_url: must be an https:// URL; http:// is for the stage 'local' only",
        ),
        ({"allowed_origins": ["a.example"]}, "stages.qa.allowed_origins: must be a list of origins"),
        ({"allowed_origins": ["*"]}, "stages.qa.allowed_origins: '*' is for the stage 'local' only"),
        ({"prefix": "Acme"}, "stages.qa.prefix: must be 1 to 20 of a-z, 0-9 and '-'"),
        ({"jwt_secret_name": "a b"}, "stages.qa.jwt_secret_name: must be the name (not the ARN) of a secret"),
        (
            {"domain_name": "ws.example.com"},
            "stages.qa.domain_certificate_arn: must be set: domain_name needs it",
        ),
        ({"domain_path": "v1"}, "stages.qa.domain_name: must be set: domain_path needs it"),
        ({"domain_name": "https://ws.example.com"}, "stages.qa.domain_name: must be a domain name such as"),
        (
            {"domain_certificate_arn": "x"},
            "stages.qa.domain_certificate_arn: must be an ACM certificate's ARN",
        ),
        ({"domain_path": "a/b"}, "stages.qa.domain_path: must be one segment of a path"),
        ({"jwt_max_lifetime": 5}, "stages.qa.jwt_max_lifetime: must be a whole number from 60 to "),
        ({"over_max_connections": "both"}, "stages.qa.over_max_connections: must be 'close_oldest' or"),
        ({"fanout_concurrency": 1}, "stages.qa.fanout_concurrency: must be a whole number from 2 to 1000"),
        ({"fanout_share": 1}, "stages.qa.fanout_share: must be a number from 0.05 to 0.95, not 1"),
        (
            {"fanout_concurrency": 15},
            "stages.qa.fanout_rate: times fanout_concurrency must be at most 7000",
        ),
        (
            {"account_requests_per_second": 1000},
            "stages.qa.fanout_rate: times fanout_concurrency must be at most 700, 0.7 of the 1000 of",
        ),
        # aws.md 8: what fits an old region does not fit a newer one.
        (
            {"region": "eu-central-2", "fanout_concurrency": 4},
            "stages.qa.fanout_rate: times fanout_concurrency must be at most 1750, 0.7 of the 2500 of",
        ),
        # aws.md 5: a new account has ten concurrent executions for all functions together.
        (
            {"account_concurrency": 10, "fanout_concurrency": 6},
            "stages.qa.fanout_concurrency: must be at most 5, half of account_concurrency",
        ),
        # aws.md 6: what is kept belongs to one account and region.
        ({"keep_data": True}, "stages.qa.account: must be set: keep_data needs it"),
        ({"keep_data": True, "account": "1" * 12}, "stages.qa.region: must be set: keep_data needs it"),
        ({"account": 123}, "stages.qa.account: must be an AWS account's 12 digits as a string, not 123"),
        ({"region": "Frankfurt"}, "stages.qa.region: must be a region such as 'eu-central-1', not"),
        (
            {
                "region": "eu-central-1",
                "domain_name": "ws.example.com",
                "domain_certificate_arn": CERTIFICATE,
            },
            "stages.qa.domain_certificate_arn: must be in the stage's region eu-central-1",
        ),
        # aws.md 27: Lambda has 4 KB for all variables of a function.
        (
            {"allowed_origins": [f"https://shop-{n}.customers.example.com" for n in range(90)]},
            "stages.qa.allowed_origins: together with the token rules take ",
        ),
        (
            {"monitoring": True, "alarm_topic_arn": TOPIC, "alarm_email": "ops@example.com"},
            "stages.qa.alarm_email: must not be set: alarm_topic_arn names the topic to subscribe to",
        ),
        ({"jwt_secret_key_arn": KEY}, "stages.qa.jwt_secret_name: must be set: jwt_secret_key_arn needs it"),
        ({"customer_key_arn": KEY}, "stages.qa.customer_key: must be set: customer_key_arn needs it"),
        ({"callback_at_domain": True}, "stages.qa.domain_name: must be set: callback_at_domain needs it"),
        ({"gradual_changes": True}, "stages.qa.monitoring: must be set: gradual_changes needs it"),
        ({"backend_accounts": ["12"]}, "stages.qa.backend_accounts: must be a list of account ids"),
        ({"backend_roles": ["path/role"]}, "stages.qa.backend_roles: must be a list of role names"),
        ({"tags": {"aws:x": "1"}}, "stages.qa.tags: must be an object of tags and their values"),
        ({"alarm_email": "ops@example.com"}, "stages.qa.monitoring: must be set: alarm_email needs it"),
        ({"alarm_email": "ops"}, "stages.qa.alarm_email: must be an e-mail address, not 'ops'"),
        ({"jwt_algorithm": "RS256"}, "stages.qa.jwks_url: goes with jwt_algorithm RS256 or ES256"),
        ({"jwks_url": "https://id.example.com/jwks"}, "stages.qa.jwks_url: goes with jwt_algorithm RS256"),
        ({"jwks_url": "http://id.example.com/jwks"}, "stages.qa.jwks_url: must be an https:// URL"),
        (
            {"jwt_algorithm": "none"},
            "stages.qa.jwt_algorithm: must be 'HS256', 'RS256' or 'ES256', not 'none'",
        ),
        ({"memory": 256}, "stages.qa.memory: is not a setting; did you mean memory_mb?"),
        ({"x": 1}, "stages.qa.x: is not a setting; there are account, account_concurrency, "),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_key(changes: dict[str, Any], message: str) -> None:
    told = error(**changes)
    assert told.startswith(message)
    assert "\n" not in told


def test_an_unknown_stage_is_told_which_there_are() -> None:
    assert error("production") == "stage: there is no 'production'; cdk.json has qa"
    assert error(None) == "stage: choose one with `-c stage=NAME`; cdk.json has qa"


@pytest.mark.parametrize("name", ["Prod", "a" * 16, "1st", "a_b"])
def test_a_stage_name_that_would_not_fit_is_refused(name: str) -> None:
    with pytest.raises(StageError, match="a stage's name is 1 to 15"):
        Stage.from_context(name, {name: GOOD})


@pytest.mark.parametrize("stages", [None, {}, []])
def test_a_context_without_stages_is_told_so(stages: object) -> None:
    with pytest.raises(StageError, match="stages: is missing"):
        Stage.from_context("dev", stages)


def test_settings_that_are_no_object_are_refused() -> None:
    with pytest.raises(StageError, match=r"stages\.dev: must be an object of settings, not 3"):
        Stage.from_context("dev", {"dev": 3})


def run_app(tmp_path: Path, context: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Run app.py as CDK and the local run do."""
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ
        | {
            "CDK_CONTEXT_JSON": json.dumps(context),
            "CDK_OUTDIR": str(tmp_path / "out"),
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_app_py_ends_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    run = run_app(tmp_path, CONTEXT | {"stage": "nowhere"})
    assert run.returncode == 1
    assert run.stderr == "error: stage: there is no 'nowhere'; cdk.json has dev, local, prod\n"
    assert run.stdout == ""


@pytest.mark.slow
def test_app_py_makes_the_one_stack_of_the_stage(tmp_path: Path) -> None:
    run = run_app(tmp_path, CONTEXT | {"stage": "local"})
    assert run.returncode == 0, run.stderr
    templates = [path.name for path in (tmp_path / "out").glob("*.template.json")]
    assert templates == ["landinghub-websocket-local.template.json"]


@pytest.mark.parametrize(
    ("region", "quota"),
    [(None, 10_000), ("eu-central-1", 10_000), ("eu-central-2", 2500), ("mx-central-1", 2500)],
)
def test_the_quota_of_requests_follows_the_region(region: str | None, quota: int) -> None:
    """aws.md 8."""
    stage = Stage.from_settings("qa", GOOD | ({"region": region} if region else {}))
    assert stage.requests_quota == quota
    asked_for_more = Stage.from_settings("qa", GOOD | {"account_requests_per_second": 40_000})
    assert asked_for_more.requests_quota == 40_000


def test_the_table_of_settings_in_the_docs_is_written_from_the_settings() -> None:
    page = reference.PAGE.read_text()
    assert reference.fill(page) == page, "stale: `make docs` writes it"
    assert len(settings_by_name()) == len(dataclasses.fields(Stage)) - 1  # all but the name


def test_a_page_without_the_markers_is_not_written() -> None:
    with pytest.raises(ValueError, match="lost its markers"):
        reference.fill("# Operations\n")


class Recording(dict[str, str]):
    """An environment that remembers what was read of it."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


BY_CONSTRUCTS = {
    *("WEBSOCKET_CONNECTIONS_TABLE", "WEBSOCKET_ROOMS_TABLE", "WEBSOCKET_HISTORY_TABLE"),
    "WEBSOCKET_API_ENDPOINT",
    *("WEBSOCKET_ROOMS", "WEBSOCKET_APPLICATION"),
    *("WEBSOCKET_FANOUT_QUEUE_URL", "WEBSOCKET_JWT_SECRET_NAME", "WEBSOCKET_SERVER_EVENTS"),
}
"""The variables with what a deployment makes: no setting of a stage says them."""


def test_the_functions_read_every_variable_that_a_setting_names_and_no_other() -> None:
    environ = Recording({"WEBSOCKET_CONNECTIONS_TABLE": "c", "WEBSOCKET_ROOMS_TABLE": "r"})
    Settings.from_env(environ)
    named = {about.env for about, _ in settings_by_name().values() if about.env}
    assert environ.read - {"JWT_SECRET"} == named | BY_CONSTRUCTS


def test_a_setting_left_out_is_what_the_functions_take_for_it() -> None:
    names = {"WEBSOCKET_CONNECTIONS_TABLE": "c", "WEBSOCKET_ROOMS_TABLE": "r"}
    stage = Stage.from_settings("local", GOOD | {"allowed_origins": ["*"], "fanout_rate": 600})
    told = stage.environment("clients") | stage.environment("worker") | {"WEBSOCKET_CONNECT_RATE": "500"}
    # Origins have no default in a stage; without the variable no page is let in.
    asked = {"WEBSOCKET_ALLOWED_ORIGINS": "*"}
    assert Settings.from_env(names | told) == Settings.from_env(names | asked)


def test_what_stacks_and_engine_both_call_by_name_has_one_name() -> None:
    """The index is named in the table's template and in the engine's queries; the others have one owner."""
    engine = "".join(path.read_text() for path in (ROOT / "roomcast" / "store").rglob("*.py"))
    assert f'"{USER_INDEX}"' in engine
    assert target.LOCAL == LOCAL
    _, prefix = settings_by_name()["prefix"]
    assert prefix.default == target.STACK_PREFIX
