"""CloudFormation's own schemas and rules, asked without a network."""

from pathlib import Path

import pytest
from cfnlint.api import lint
from cfnlint.core import get_rules

from tests.infra.conftest import CONTEXT, VARIANTS

IGNORED = ["W3005"]  # CDK names a role in DependsOn beside the GetAtt that orders them already


@pytest.mark.parametrize("stage", [*sorted(CONTEXT["stages"]), *VARIANTS])
def test_cfn_lint_finds_nothing(assembly: Path, stage: str) -> None:
    rules = get_rules([], IGNORED, ["W", "E"])
    matches = lint((assembly / f"{stage}.template.json").read_text(), rules, ["us-east-1", "eu-central-1"])
    assert [f"{match.rule.id} {match.path_string}: {match.message}" for match in matches] == []
