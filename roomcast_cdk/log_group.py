"""Log groups: each has the stage's retention and its encryption."""

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from roomcast_cdk.shared import Shared


def log_group(scope: Construct, id_: str, *, shared: Shared, name: str | None = None) -> logs.LogGroup:
    """A log group that keeps its lines for the stage's `log_days`, and outlives the stack where data does.

    One with a fixed name does not: it would be in the way of the next group of that name.
    """
    removal = cdk.RemovalPolicy.DESTROY if name else shared.removal
    group = logs.LogGroup(scope, id_, log_group_name=name, removal_policy=removal, encryption_key=shared.key)
    resource = group.node.default_child
    assert isinstance(resource, logs.CfnLogGroup)  # noqa: S101  what CDK documents, for the type checker
    resource.retention_in_days = shared.stage.log_days  # the construct takes an enum, not a number
    shared.encrypted(group, "CKV_AWS_158")
    return group
