"""The metrics of a stage: those that its functions write, and those that AWS publishes."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from roomcast.metrics import NAMESPACE
from roomcast_cdk.fan_out import FanOut
from roomcast_cdk.function import Function
from roomcast_cdk.stage import Stage
from roomcast_cdk.tables import USER_INDEX, Tables
from roomcast_cdk.websocket_api import WebSocketApi

MINUTE, FIVE_MINUTES = cdk.Duration.minutes(1), cdk.Duration.minutes(5)


class Metrics:
    """Makes the metrics that alarms and dashboard are built from.

    Args:
        stage: its names and quotas.
        tables: whose units and throttles are shown.
        api: whose messages and errors are shown.
        fan_out: whose queues are shown.
        functions: all functions that are watched.
    """

    def __init__(
        self,
        *,
        stage: Stage,
        tables: Tables,
        api: WebSocketApi,
        fan_out: FanOut,
        functions: Sequence[Function],
    ) -> None:
        self.stage = stage
        self.queue = fan_out.queue
        self.dead_letters = fan_out.dead_letters
        self.functions = functions
        self._tables = {
            "connections": tables.connections,
            "rooms": tables.rooms,
            "history": tables.history,
        }
        self._api = api

    def own(
        self, name: str, statistic: str = "Sum", period: cdk.Duration = FIVE_MINUTES
    ) -> cloudwatch.Metric:
        """A metric that the functions write (`roomcast/metrics.py`)."""
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"Stack": self.stage.stack_name},
            statistic=statistic,
            period=period,
            label=name if statistic in ("Sum", "Maximum") else statistic,
        )

    def refused(self) -> list[cloudwatch.Metric]:
        """Refused connects, by reason."""
        return [self.own(name) for name in ("RefusedCredentials", "RefusedOrigin", "RefusedLimit")]

    def gateway(
        self, name: str, statistic: str = "Sum", period: cdk.Duration = FIVE_MINUTES
    ) -> cloudwatch.Metric:
        """A metric of API Gateway."""
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={"ApiId": self._api.api_id, "Stage": self.stage.name},
            statistic=statistic,
            period=period,
            label=name if statistic == "Sum" else f"{name} {statistic}",
        )

    def of_functions(
        self, name: str, statistic: str, period: cdk.Duration = FIVE_MINUTES
    ) -> list[cloudwatch.Metric]:
        """A metric of Lambda, once for each function."""
        return [
            function.function.metric(
                name, statistic=statistic, period=period, label=f"{function.name} {name.lower()}"
            )
            for function in self.functions
        ]

    def of_tables(
        self, name: str, period: cdk.Duration = FIVE_MINUTES, *, index: bool = False
    ) -> list[cloudwatch.Metric]:
        """A metric of DynamoDB, once for each table.

        Args:
            name: its name.
            period: its period.
            index: whether the connections table's index is wanted as well; a table's own values leave it out.
        """
        dimensions = {what: {"TableName": table.table_name} for what, table in self._tables.items()}
        if index:
            of_index = {"GlobalSecondaryIndexName": USER_INDEX}
            dimensions["users"] = dimensions["connections"] | of_index
        return [
            cloudwatch.Metric(
                namespace="AWS/DynamoDB",
                metric_name=name,
                dimensions_map=each,
                statistic="Sum",
                period=period,
                label=f"{what} {name}",
            )
            for what, each in dimensions.items()
        ]

    def share_of_quota(self, label: str) -> cloudwatch.MathExpression:
        """Percent of the account's API Gateway requests that this stage takes, minute by minute."""
        requests = [
            self.gateway("ConnectCount", period=MINUTE),
            self.gateway("MessageCount", period=MINUTE),  # both directions
        ]
        return total(requests, label, 100 / 60 / self.stage.requests_quota)


def total(
    metrics: Sequence[cloudwatch.Metric], label: str, factors: Sequence[float] | float = 1.0
) -> cloudwatch.MathExpression:
    """Metrics added up, each times its factor."""
    each = [factors] * len(metrics) if isinstance(factors, int | float) else factors
    using: dict[str, cloudwatch.IMetric] = {f"m{number}": metric for number, metric in enumerate(metrics)}
    # Metric math has no exponents: 1e-06 would be read as a metric's name.
    terms = [f"{factor:.18f} * FILL({name}, 0)" for name, factor in zip(using, each, strict=True)]
    return cloudwatch.MathExpression(
        expression=" + ".join(terms), using_metrics=using, label=label, period=metrics[0].period
    )
