"""Names that only one resource of an account and region can have: whoever looks for them knows them all."""

from typing import Any

import pytest

from roomcast_dev.cli import preflight_checks
from tests.infra.cloudformation.templates import NAMED_BY
from tests.infra.conftest import SETTINGS

WHAT = {
    "AWS::ApiGatewayV2::DomainName": "domain",
    "AWS::CloudWatch::Dashboard": "dashboard",
    "AWS::DynamoDB::Table": "table",
    "AWS::KMS::Alias": "key alias",
    "AWS::Lambda::Function": "function",
    "AWS::SQS::Queue": "queue",
    "AWS::SSM::Parameter": "parameter",
}
"""What `preflight` calls each type."""


@pytest.mark.parametrize("stage", SETTINGS)
def test_preflight_looks_for_every_fixed_name_of_a_stage(documents: dict[str, Any], stage: str) -> None:
    settings = SETTINGS[stage]
    region = settings.get("region", "us-east-1")
    fixed: dict[str, set[str]] = {}
    for resource in documents[stage]["Resources"].values():
        keys = NAMED_BY.get(resource["Type"], ())
        name = resource.get("Properties", {}).get(keys[0]) if len(keys) == 1 else None
        if name is not None and not refers_to_a_resource(name, documents[stage]):
            fixed.setdefault(WHAT[resource["Type"]], set()).add(with_region(name, region))
    looked_for = {
        what: set(names)
        for what, names in preflight_checks.names(stage, settings, region).items()
        if names and what != "parameter"
    }
    parameters = fixed.pop("parameter")
    assert looked_for == fixed
    # One of them stands for all: they are made and deleted together.
    (one,) = preflight_checks.names(stage, settings, region)["parameter"]
    assert one in parameters
    assert {name.rpartition("/")[0] for name in parameters} == {one.rpartition("/")[0]}


def refers_to_a_resource(name: Any, document: Any) -> bool:
    """Whether a name is made of another resource's, as a log group's of the API's id."""
    return any(f"'{id_}'" in str(name) for id_ in document["Resources"])


def with_region(name: Any, region: str) -> str:
    """The name with the region filled in, which may be the only reference in it."""
    if isinstance(name, str):
        return name
    separator, parts = name["Fn::Join"]
    return str(separator).join(region if part == {"Ref": "AWS::Region"} else part for part in parts)
