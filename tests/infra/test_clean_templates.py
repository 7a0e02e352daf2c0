"""The templates under cfn-lint, cdk-nag and checkov: nothing unexplained. `make check` runs this file.

What is accepted has its reason next to its construct (`roomcast_cdk/findings.py`).
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import cdk_nag
import pytest
from aws_cdk import aws_iam as iam
from cfnlint.api import lint
from cfnlint.core import get_rules

from roomcast_cdk.account_stack import Account, AccountStack
from roomcast_cdk.stage import ACCOUNT, Stage
from stacks.websocket_stack import WebSocketStack
from tests.infra.conftest import BUDGET, CONTEXT, ROOT, SETTINGS

pytestmark = pytest.mark.slow  # and checkov has an environment of its own, which `make test` does not set up

STAGES = sorted(SETTINGS)
STACKS = [ACCOUNT, *STAGES]
IGNORED = ["W3005"]  # CDK names a role in DependsOn as well as the GetAtt that orders them already


@pytest.mark.parametrize("stage", STACKS)
def test_cfn_lint_finds_nothing(assembly: Path, stage: str) -> None:
    rules = get_rules([], IGNORED, ["W", "E"])
    matches = lint((assembly / f"{stage}.template.json").read_text(), rules, ["us-east-1", "eu-central-1"])
    assert [f"{match.rule.id} {match.path_string}: {match.message}" for match in matches] == []


def nag(app: cdk.App) -> dict[str, list[str]]:
    """What AWS Solutions and Serverless find in the stacks of an app, and CDK's own warnings."""
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app), cdk_nag.ServerlessChecks(app))
    try:
        app.synth()
    except RuntimeError as error:  # that is how findings end a synthesis
        assert str(error).startswith("ValidationFailed")
    report = json.loads((Path(app.outdir) / "validation-report.json").read_text())
    return {
        pack["pluginName"]: [
            f"{violation['ruleName']} {construct['constructPath']}"
            for violation in pack["violations"]
            for construct in violation["violatingConstructs"]
        ]
        for pack in report["pluginReports"]
    }


def test_cdk_nag_finds_nothing(tmp_path: Path) -> None:
    app = cdk.App(outdir=str(tmp_path), context=CONTEXT)
    for name in STAGES:
        WebSocketStack(app, name, stage=Stage.from_context(name, SETTINGS))
    AccountStack(app, ACCOUNT, account=Account.from_context(BUDGET))
    # aws.md 19: a stage that can hardly be meant as it is says so at synthesis.
    warnings = {
        *(
            f"Annotation::roomcast:{what} prod/Default"
            for what in ("allowed-origins", "account", "alarm-address")
        ),
        *(f"Annotation::roomcast:{what} own-key/Default" for what in ("account", "alarm-address")),
        "Annotation::roomcast:alarm-address given-key/Default",
    }
    found = nag(app)
    assert set(found.pop("Construct Annotations")) == warnings
    assert found == {"AwsSolutions": [], "Serverless": []}


def test_cdk_nag_is_awake(tmp_path: Path) -> None:
    app = cdk.App(outdir=str(tmp_path))
    role = iam.Role(cdk.Stack(app, "bad"), "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    role.add_to_policy(iam.PolicyStatement(actions=["dynamodb:*"], resources=["*"]))
    found = nag(app)["AwsSolutions"]
    assert "AwsSolutions-IAM5[Action::dynamodb:*] bad/Role/DefaultPolicy/Resource" in found


def checkov(*templates: Path) -> dict[str, Any]:
    """checkov's report; it asks no network."""
    program = ROOT / ".venv-checkov" / "bin" / "checkov"
    assert program.exists(), "checkov is not installed: `make check` does it"
    run = subprocess.run(
        [
            program,
            *("--framework", "cloudformation", "--skip-download", "--quiet", "--output", "json"),
            "--file",
            *templates,
        ],
        # checkov would look for updates and guess a repository's name.
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(templates[0].parent),
            "CHECKOV_RUN_SCA_PACKAGE_SCAN_V2": "false",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stderr
    report: dict[str, Any] = json.loads(run.stdout)
    return report


def test_checkov_finds_nothing(assembly: Path) -> None:
    report = checkov(*(assembly / f"{stage}.template.json" for stage in STACKS))
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100


def test_checkov_is_awake(assembly: Path, tmp_path: Path) -> None:
    document = json.loads((assembly / "dev.template.json").read_text())
    for resource in document["Resources"].values():
        resource.get("Metadata", {}).pop("checkov", None)
    (tmp_path / "bare.template.json").write_text(json.dumps(document))
    report = checkov(tmp_path / "bare.template.json")
    assert "CKV_AWS_119" in {check["check_id"] for check in report["results"]["failed_checks"]}
