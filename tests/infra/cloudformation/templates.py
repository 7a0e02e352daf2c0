"""Templates as CloudFormation reads them: order, references, names, and what the resource schemas say."""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

Document = dict[str, Any]

NAMED_BY = {
    "AWS::ApiGatewayV2::ApiMapping": ("DomainName", "ApiMappingKey"),
    "AWS::ApiGatewayV2::DomainName": ("DomainName",),
    "AWS::ApiGatewayV2::Stage": ("ApiId", "StageName"),
    "AWS::CloudWatch::Alarm": ("AlarmName",),
    "AWS::CloudWatch::Dashboard": ("DashboardName",),
    "AWS::CodeDeploy::Application": ("ApplicationName",),
    "AWS::CodeDeploy::DeploymentGroup": ("ApplicationName", "DeploymentGroupName"),
    "AWS::DynamoDB::Table": ("TableName",),
    "AWS::Events::Rule": ("Name",),
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName",),
    "AWS::IAM::Role": ("RoleName",),
    "AWS::KMS::Alias": ("AliasName",),
    "AWS::Lambda::Alias": ("FunctionName", "Name"),
    "AWS::Lambda::Function": ("FunctionName",),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::SNS::Topic": ("TopicName",),
    "AWS::SQS::Queue": ("QueueName",),
    "AWS::SSM::Parameter": ("Name",),
    "AWS::SecretsManager::Secret": ("Name",),
}
"""The properties that are a resource's name, where the template gives one."""

_ALSO_REPLACE = {"AWS::DynamoDB::Table": {"KeySchema"}}
"""What the schemas do not say of themselves: "Some updates require replacement"."""


class Named(Protocol):
    """What a reference may mean."""

    kind: str
    name: str
    properties: dict[str, Any]


def order(template: Document) -> list[str]:
    """The logical ids, each after those that it needs."""
    resources: dict[str, Any] = template["Resources"]
    done: dict[str, None] = {}

    def visit(id_: str) -> None:
        if id_ in done:
            return
        for needed in needs(resources[id_]):
            if needed in resources:
                visit(needed)
        done[id_] = None

    for id_ in resources:
        visit(id_)
    return list(done)


def needs(resource: dict[str, Any]) -> set[str]:
    """What a resource refers to or waits for."""
    waits = resource.get("DependsOn", [])
    return {*([waits] if isinstance(waits, str) else waits), *_references(resource.get("Properties", {}))}


def _references(value: Any) -> Iterator[str]:
    match value:
        case {"Ref": str(id_)}:
            yield id_
        case {"Fn::GetAtt": [str(id_), _]}:
            yield id_
        case {"Fn::Sub": str(text)}:
            yield from re.findall(r"\$\{([^}.]+)", text)
        case dict():
            for inner in value.values():
                yield from _references(inner)
        case list():
            for inner in value:
                yield from _references(inner)


def resolve(value: Any, resources: Mapping[str, Named], region: str) -> Any:
    """A template's value with its references filled in."""
    pseudo = {"AWS::Region": region, "AWS::AccountId": "111122223333", "AWS::Partition": "aws"}
    pseudo |= {"AWS::URLSuffix": "amazonaws.com", "AWS::StackName": "stack", "AWS::NoValue": ""}

    def fill(value: Any) -> Any:
        match value:
            case {"Ref": str(id_)}:
                return pseudo[id_] if id_ in pseudo else _reference(resources[id_], region)
            case {"Fn::GetAtt": [str(id_), str(attribute)]}:
                to = resources[id_]
                if to.kind == "AWS::KMS::Key" and attribute == "Arn":
                    return f"arn:aws:kms:{region}:111122223333:key/{to.name}"
                return f"{to.name}.{attribute}"
            case {"Fn::Select": [int() | str() as index, choices]}:
                return fill(choices)[int(index)]
            case {"Fn::Split": [str(separator), text]}:
                return str(fill(text)).split(separator)
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(str(fill(part)) for part in parts)
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda found: str(fill({"Ref": found[1]})), text)
            case dict() if any(key.startswith("Fn::") for key in value):
                raise AssertionError(f"unknown in a template: {value}")
            case dict():
                return {key: fill(inner) for key, inner in value.items()}
            case list():
                return [fill(inner) for inner in value]
        return value

    return fill(value)


def _reference(to: Named, region: str) -> str:
    """What `Ref` gives: the name, and of an alias or a version its ARN."""
    if to.kind not in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
        return to.name
    function = str(to.properties["FunctionName"]).rpartition(":")[2]
    return f"arn:aws:lambda:{region}:111122223333:function:{function}:{to.properties.get('Name', to.name)}"


def custom_name(kind: str, properties: dict[str, Any]) -> str | None:
    """The name that the template gives a resource; None where CloudFormation makes one up."""
    keys = NAMED_BY.get(kind, ())
    if not keys or keys[-1] not in properties:
        return None
    return "/".join(str(properties.get(key, "")) for key in keys)


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    return schema


@functools.cache
def replacing(kind: str) -> set[str]:
    """The properties whose change replaces a resource of this type."""
    paths = _schema(kind).get("createOnlyProperties") or []
    return {path.split("/")[2] for path in paths} | _ALSO_REPLACE.get(kind, set())


@functools.cache
def importable(kind: str, name: str) -> bool:
    """Whether a change set finds an existing resource of this type by the name in the template."""
    schema = _schema(kind)
    identifiers = schema.get("primaryIdentifier") or []
    return identifiers == [f"/properties/{name}"] and not set(identifiers) & set(
        schema.get("readOnlyProperties") or []
    )
