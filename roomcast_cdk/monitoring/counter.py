"""The function that counts open connections, which no AWS metric reports."""

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from constructs import Construct

from roomcast_cdk.findings import accept
from roomcast_cdk.function import Function
from roomcast_cdk.shared import Shared
from roomcast_cdk.tables import Tables


def counter(scope: Construct, *, shared: Shared, tables: Tables) -> Function:
    """A function that scans the connections table every quarter of an hour."""
    function = Function(
        scope,
        "Counter",
        name="Count",
        shared=shared,
        description="Counts the open connections.",
        environment=tables.environment,
        timeout=120,
        gradual=False,
    )
    # A count that fails is followed by another: it need not be retried, by Lambda or by EventBridge, or kept.
    function.function.configure_async_invoke(retry_attempts=0, max_event_age=cdk.Duration.minutes(5))
    accept(
        function.function.node.find_child("EventInvokeConfig"),
        "A count that fails is followed by another.",
        "Serverless-LambdaAsyncFailureDestination",
    )
    tables.grant_connections(function.role, "Scan")
    tables.grant_rooms(function.role, "PutItem")
    rule = events.Rule(scope, "Schedule", schedule=events.Schedule.rate(cdk.Duration.minutes(15)))
    rule.add_target(targets.LambdaFunction(function.function, retry_attempts=0))
    accept(rule, "A count that is missed is followed by another.", "Serverless-EventBusDLQ")
    return function
