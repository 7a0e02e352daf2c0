"""Findings of cdk-nag and checkov that are accepted, each with its reason next to its construct."""

import aws_cdk as cdk
from constructs import IConstruct


def accept(construct: IConstruct, reason: str, *rules: str) -> None:
    """Accept findings of cdk-nag or checkov on one construct.

    Args:
        construct: the construct, or the resource itself.
        reason: why this is right here. It is written into the template for checkov.
        rules: their names, such as `AwsSolutions-L1`, `Serverless-LambdaDLQ` or `CKV_AWS_117`.
    """
    for rule in rules:
        if rule.startswith("CKV_"):
            resource = (
                construct if cdk.CfnResource.is_cfn_resource(construct) else construct.node.default_child
            )
            assert isinstance(resource, cdk.CfnResource), f"{construct} has no resource of its own"  # noqa: S101
            known = resource.get_metadata("checkov") or {"skip": []}
            skip = [*known["skip"], {"id": rule, "comment": reason}]
            resource.add_metadata("checkov", {"skip": skip})
        else:
            pack = rule.partition("-")[0]
            cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=f"{pack}::{rule}", reason=reason))
