"""Saved queries of the functions' logs, for CloudWatch Logs Insights."""

from collections.abc import Sequence

from aws_cdk import aws_logs as logs
from constructs import Construct

from roomcast_cdk.function import Function
from roomcast_cdk.stage import Stage

_QUERIES = {
    "RefusedConnectsQuery": (
        "refused connects",
        "filter message like /^refused connectionId=/ and message like /status=/",
        'parse message "status=* reason=*" as status, reason',
        "stats count(*) as refused by status, reason",
        "sort refused desc",
    ),
    "OneUserQuery": (
        "one user's connections (put the user's id in)",
        'filter message like "userId=PUT-THE-ID-HERE "',
        "fields @timestamp, message",
        "sort @timestamp desc",
    ),
    "OneSendQuery": (
        "the way of one send (put its id in)",
        'filter message like "id=PUT-THE-ID-HERE "',
        "fields @timestamp, message",
        "sort @timestamp asc",
    ),
}
"""By construct id: the name, and the commands."""


def queries(scope: Construct, *, stage: Stage, functions: Sequence[Function]) -> None:
    """Save the queries, each over the logs of all functions."""
    for id_, (name, *commands) in _QUERIES.items():
        logs.CfnQueryDefinition(
            scope,
            id_,
            name=f"{stage.stack_name}/{name}",
            log_group_names=[function.logs.log_group_name for function in functions],
            query_string="\n| ".join(commands),
        )
