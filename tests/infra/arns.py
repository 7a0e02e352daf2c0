"""A template's references filled in with names and ARNs, as AWS would for one account and region."""

import re
from typing import Any

ACCOUNT, REGION, PARTITION, SUFFIX = "000000000000", "us-east-1", "aws", "amazonaws.com"
"""Those that `prod` names in cdk.json, so that stages with and without a place of their own read alike."""

_PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": PARTITION,
    "AWS::Region": REGION,
    "AWS::StackName": "stack",
    "AWS::URLSuffix": SUFFIX,
}
_NAMED_BY = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
}
_ARNS = {
    "AWS::CloudWatch::Alarm": "cloudwatch:{place}:alarm:{name}",
    "AWS::DynamoDB::Table": "dynamodb:{place}:table/{name}",
    "AWS::Events::Rule": "events:{place}:rule/{name}",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::KMS::Key": "kms:{place}:key/{name}",
    "AWS::Lambda::Function": "lambda:{place}:function:{name}",
    "AWS::Logs::LogGroup": "logs:{place}:log-group:{name}:*",
    "AWS::Scheduler::Schedule": "scheduler:{place}:schedule/default/{name}",
    "AWS::SNS::Topic": "sns:{place}:{name}",
    "AWS::SQS::Queue": "sqs:{place}:{name}",
    "AWS::SecretsManager::Secret": "secretsmanager:{place}:secret:{name}-AbCdEf",
}
_REF_IS_ARN = {"AWS::IAM::ManagedPolicy", "AWS::SNS::Topic", "AWS::SecretsManager::Secret"}


class Arns:
    """Fills in a template's references.

    What CloudFormation would name itself is called by its logical id.

    Args:
        document: the template.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.all: dict[str, dict[str, Any]] = document["Resources"]

    def of(self, id_: str) -> str:
        """The ARN of a resource."""
        kind = self.all[id_]["Type"]
        if kind in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
            properties = self.all[id_]["Properties"]
            function = self.fill(properties["FunctionName"])
            if not function.startswith("arn:"):
                function = f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:{function}"
            return f"{function}:{self.fill(properties.get('Name', '1'))}"
        place = f"{REGION}:{ACCOUNT}"
        return f"arn:{PARTITION}:" + _ARNS[kind].format(place=place, account=ACCOUNT, name=self.name(id_))

    def name(self, id_: str) -> str:
        """The physical name of a resource."""
        resource = self.all[id_]
        own = resource.get("Properties", {}).get(_NAMED_BY.get(resource["Type"], ""))
        return id_ if own is None else self.fill(own)

    def find(self, arn: str, kind: str) -> str | None:
        """The logical id of the resource of a type that has this ARN."""
        for id_, resource in self.all.items():
            if resource["Type"] == kind and self.of(id_) == arn:
                return id_
        return None

    def fill(self, value: Any) -> str:
        """A string of the template with its references filled in.

        Raises:
            AssertionError: it holds a function that is not known here.
        """
        match value:
            case str() | int() | float():
                return str(value)
            case {"Ref": str(name)} if name in _PSEUDO:
                return _PSEUDO[name]
            case {"Ref": str(id_)}:
                kind = self.all[id_]["Type"]
                if kind == "AWS::SQS::Queue":
                    return f"https://sqs.{REGION}.{SUFFIX}/{ACCOUNT}/{self.name(id_)}"
                is_arn = kind in _REF_IS_ARN or kind in ("AWS::Lambda::Alias", "AWS::Lambda::Version")
                return self.of(id_) if is_arn else self.name(id_)
            case {"Fn::GetAtt": [str(id_), str(attribute)]}:
                if attribute.endswith("Arn"):
                    return self.of(id_)
                return self.name(id_) if attribute.endswith("Name") else f"{id_}.{attribute}"
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(self.fill(part) for part in parts)
            case {"Fn::Select": [index, {"Fn::Split": [str(separator), whole]}]}:
                return self.fill(whole).split(separator)[int(index)]
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda found: self.fill({"Ref": found[1]}), text)
        raise AssertionError(f"unknown in a template: {value}")


def listed(value: Any) -> list[Any]:
    """A value, or a list of values."""
    return value if isinstance(value, list) else [value]
