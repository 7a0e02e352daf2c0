"""Log groups: every one has the stage's retention and its encryption."""

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.accepted import AWS_KEY, accept
from stacks.stage import Stage


def log_group(
    scope: Construct, id_: str, *, stage: Stage, key: kms.IKey | None, name: str | None = None
) -> logs.LogGroup:
    """A log group that keeps its lines for the stage's `log_days`, and outlives the stack where data does."""
    removal = cdk.RemovalPolicy.RETAIN if stage.keep_data else cdk.RemovalPolicy.DESTROY
    group = logs.LogGroup(scope, id_, log_group_name=name, removal_policy=removal, encryption_key=key)
    resource = group.node.default_child
    assert isinstance(resource, logs.CfnLogGroup)  # noqa: S101  what CDK documents, for the type checker
    resource.retention_in_days = stage.log_days  # a number, where the construct wants the name of a number
    if key is None:
        accept(group, AWS_KEY, "CKV_AWS_158")
    return group
