"""The dashboard of a stage: the questions of operations, answered at a glance."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from roomcast_cdk.monitoring.metrics import FIVE_MINUTES, Metrics, total
from roomcast_dev.prices import prices

_PRICED_REGION = "us-east-1"
"""Whose list prices are used where those of the stage's region are not known."""


def dashboard(
    scope: Construct, *, metrics: Metrics, alarms: Sequence[cloudwatch.Alarm]
) -> cloudwatch.Dashboard:
    """Alarms and money on top, then clients, sends, functions, API Gateway and tables."""
    made = cloudwatch.Dashboard(
        scope,
        "Dashboard",
        # An account has one set of dashboards for all regions.
        dashboard_name=f"{metrics.stage.stack_name}-{cdk.Stack.of(scope).region}",
        default_interval=cdk.Duration.hours(6),
    )
    rows: list[list[cloudwatch.IWidget]] = [
        [
            cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(alarms), width=16, height=4),
            _money(metrics),
        ],
        [
            _graph(
                "Open connections (every 15 minutes); opened minus closed (so far)",
                metrics.own("OpenConnections", "Maximum", cdk.Duration.minutes(15)),
                cloudwatch.MathExpression(
                    expression="RUNNING_SUM(FILL(connected, 0) - FILL(disconnected, 0))",
                    using_metrics={
                        "connected": metrics.own("Connected"),
                        "disconnected": metrics.own("Disconnected"),
                    },
                    label="opened minus closed",
                    period=FIVE_MINUTES,
                ),
            ),
            _graph(
                "Connects and refusals",
                metrics.own("Connected"),
                *metrics.refused(),
                metrics.own("KeysUnavailable"),
            ),
            _graph("Messages, in and out", metrics.gateway("MessageCount"), metrics.gateway("ConnectCount")),
        ],
        [
            _graph(
                "Large sends by outcome",
                *(metrics.own(name) for name in ("Sent", "Gone", "Failed", "Unknown")),
            ),
            _graph(
                "Large sends: from send to post, ms",
                *(metrics.own("PublishToPost", statistic) for statistic in ("p50", "p95", "p99")),
            ),
            _graph(
                "Queue: jobs, age of the oldest (s), dead-letter queue",
                metrics.queue.metric_approximate_number_of_messages_visible(label="jobs"),
                metrics.queue.metric_approximate_age_of_oldest_message(label="age, s"),
                metrics.dead_letters.metric_approximate_number_of_messages_visible(label="dead-letter queue"),
            ),
        ],
        [
            _graph("Rooms that clients came back to", metrics.own("Recovered"), metrics.own("Gaps")),
            _graph("Bytes replayed", metrics.own("ReplayBytes")),
            _graph(
                "Published by clients; stored, and numbers lost to another sender",
                *(
                    metrics.own(name)
                    for name in ("Published", "Signals", "RefusedPublish", "Appends", "Conflicts")
                ),
            ),
        ],
        [
            _graph(
                "Functions: errors and throttles",
                *metrics.of_functions("Errors", "Sum"),
                *metrics.of_functions("Throttles", "Sum"),
            ),
            _graph("Functions: duration p99, ms", *metrics.of_functions("Duration", "p99")),
            _graph("Cold starts; server events lost", metrics.own("ColdStarts"), metrics.own("EventsLost")),
        ],
        [
            _graph(
                "API Gateway: errors",
                *(metrics.gateway(name) for name in ("ClientError", "IntegrationError", "ExecutionError")),
            ),
            _graph(
                "API Gateway: latency of the functions, ms",
                *(metrics.gateway("IntegrationLatency", statistic) for statistic in ("p50", "p95", "p99")),
            ),
            _graph("Share of the account's requests, %", metrics.share_of_quota("share, %")),
        ],
        [
            _graph(
                "DynamoDB: units",
                *metrics.of_tables("ConsumedReadCapacityUnits", index=True),
                *metrics.of_tables("ConsumedWriteCapacityUnits", index=True),
            ),
            _graph(
                "DynamoDB: throttled",
                *metrics.of_tables("ReadThrottleEvents", index=True),
                *metrics.of_tables("WriteThrottleEvents", index=True),
            ),
            _graph("DynamoDB: expired items deleted", *metrics.of_tables("TimeToLiveDeletedItemCount")),
        ],
    ]
    for row in rows:
        made.add_widgets(*row)
    return made


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), width=8, height=6)


def _money(metrics: Metrics) -> cloudwatch.SingleValueWidget:
    """What the traffic of the shown time range cost, at list prices."""
    known = prices().regions
    here = metrics.stage.region
    region = here if here and here in known else _PRICED_REGION
    price = {name: price.first for name, price in known[region].items()}
    gb_millisecond = price["gb_seconds"] / 1000
    priced: list[tuple[cloudwatch.Metric, float]] = [
        (metrics.gateway("MessageCount"), price["messages"]),
        *((metric, price["invocations"]) for metric in metrics.of_functions("Invocations", "Sum")),
        *(
            (metric, gb_millisecond * function.memory_mb / 1024)
            for metric, function in zip(
                metrics.of_functions("Duration", "Sum"), metrics.functions, strict=True
            )
        ),
        *((metric, price["reads"]) for metric in metrics.of_tables("ConsumedReadCapacityUnits", index=True)),
        *(
            (metric, price["writes"])
            for metric in metrics.of_tables("ConsumedWriteCapacityUnits", index=True)
        ),
    ]
    each, factors = zip(*priced, strict=True)
    return cloudwatch.SingleValueWidget(
        title=f"Messages, Lambda and DynamoDB in the shown time, US$ at {region}'s prices",
        metrics=[total(each, "US$", factors)],
        # Otherwise the value would be of the newest period, which for a day starts at midnight UTC.
        set_period_to_time_range=True,
        width=8,
        height=4,
    )
