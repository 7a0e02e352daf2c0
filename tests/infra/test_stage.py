"""The settings of a stage: what is wrong is named in one line."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stacks.stage import Stage, StageError
from tests.infra.conftest import CONTEXT, ROOT

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
        ({"allowed_origins": ["https://a.example/"]}, "stages.qa.allowed_origins: must be a list of origins"),
        ({"allowed_origins": ["a.example"]}, "stages.qa.allowed_origins: must be a list of origins"),
        ({"allowed_origins": ["*"]}, "stages.qa.allowed_origins: '*' is for the stage 'local' alone"),
        ({"prefix": "Acme"}, "stages.qa.prefix: must be 1 to 20 of a-z, 0-9 and '-'"),
        ({"jwt_secret_name": "a b"}, "stages.qa.jwt_secret_name: must be the name (not the ARN) of a secret"),
        (
            {"domain_name": "ws.example.com"},
            "stages.qa.domain_certificate_arn: must be set: domain_name needs it",
        ),
        ({"domain_path": "v1"}, "stages.qa.domain_name: must be set: domain_path needs it"),
        ({"own_cloudwatch_role": True}, "stages.qa.gateway_logs: must be set: own_cloudwatch_role needs it"),
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
            "stages.qa.fanout_rate: times fanout_concurrency must be at most 700,",
        ),
        ({"alarm_email": "ops@example.com"}, "stages.qa.monitoring: must be set: alarm_email needs it"),
        ({"alarm_email": "ops"}, "stages.qa.alarm_email: must be an e-mail address, not 'ops'"),
        ({"jwt_algorithm": "RS256"}, "stages.qa.jwks_url: goes with jwt_algorithm RS256 or ES256"),
        ({"jwks_url": "https://id.example.com/jwks"}, "stages.qa.jwks_url: goes with jwt_algorithm RS256"),
        ({"jwks_url": "http://id.example.com/jwks"}, "stages.qa.jwks_url: must be an https:// URL, not"),
        (
            {"jwt_algorithm": "none"},
            "stages.qa.jwt_algorithm: must be 'HS256', 'RS256' or 'ES256', not 'none'",
        ),
        ({"memory": 256}, "stages.qa.memory: is no setting; did you mean memory_mb?"),
        ({"x": 1}, "stages.qa.x: is no setting; there are account_requests_per_second, actions_burst, "),
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


def test_every_setting_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for field in dataclasses.fields(Stage):
        assert field.name == "name" or f"`{field.name}`" in page, field.name
