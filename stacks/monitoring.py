"""Watching: a dashboard, alarms that say what to do, and saved queries of the logs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.accepted import accept
from stacks.fan_out import FanOut
from stacks.function import Function
from stacks.stage import Stage
from stacks.tables import Tables
from stacks.websocket_api import WebSocketApi

NAMESPACE = "Roomcast"
"""Of the metrics that the functions write (`roomcast/metrics.py`), with the dimension `Stack`."""

_MINUTE, _FIVE_MINUTES, _DAY = cdk.Duration.minutes(1), cdk.Duration.minutes(5), cdk.Duration.days(1)
_PRICES = Path(__file__).resolve().parent.parent / "roomcast_dev" / "cli" / "prices.json"
_PAGES = "docs/operations.md"


class Monitoring(Construct):
    """What a stage is watched with.

    Attributes:
        topic: tells of alarms, and of their end.
        dashboard: answers the questions of operations at one look.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        stage: Stage,
        tables: Tables,
        api: WebSocketApi,
        fan_out: FanOut,
        code: lambda_.Code,
        key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, id_)
        self._stage = stage
        self._tables = (tables.connections, tables.rooms)
        self._api = api
        self._fan_out = fan_out
        counter = self._counter(tables, code, key)
        self._functions: Sequence[Function] = (*api.functions, fan_out.worker, counter)
        self.topic = self._topic(key)
        alarms = self._alarms()
        self.dashboard = self._dashboard(alarms)
        self._queries()

    def _topic(self, key: kms.IKey | None) -> sns.Topic:
        topic = sns.Topic(self, "Alarms", master_key=key, enforce_ssl=True)
        # A policy of its own replaces SNS's default one, which is what lets CloudWatch publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}},
            )
        )
        if self._stage.alarm_email:
            subscription = topic.add_subscription(subscriptions.EmailSubscription(self._stage.alarm_email))
            accept(
                subscription,
                "An e-mail that is lost loses no alarm: its state stands in CloudWatch and on the dashboard.",
                "Serverless-SNSRedrivePolicy",
            )
        if key is None:
            # CloudWatch may not use AWS's key for SNS, so there is none that costs nothing.
            accept(topic, "Holds the names of alarms alone; customer_key encrypts it.", "CKV_AWS_26")
        return topic

    def _counter(self, tables: Tables, code: lambda_.Code, key: kms.IKey | None) -> Function:
        counter = Function(
            self,
            "Counter",
            name="Count",
            stage=self._stage,
            code=code,
            key=key,
            description="Counts the open connections.",
            environment=tables.environment,
            timeout=120,
        )
        tables.grant_connections(counter.role, "Scan")
        rule = events.Rule(self, "Schedule", schedule=events.Schedule.rate(cdk.Duration.minutes(15)))
        # A count that fails is followed by another: it need not be tried again, nor kept.
        rule.add_target(targets.LambdaFunction(counter.function, retry_attempts=0))
        accept(rule, "A count that is missed is followed by another.", "Serverless-EventBusDLQ")
        return counter

    # Metrics

    def _own(
        self, name: str, statistic: str = "Sum", period: cdk.Duration = _FIVE_MINUTES
    ) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"Stack": self._stage.stack_name},
            statistic=statistic,
            period=period,
            label=name if statistic in ("Sum", "Maximum") else statistic,
        )

    def _gateway(
        self, name: str, statistic: str = "Sum", period: cdk.Duration = _FIVE_MINUTES
    ) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/ApiGateway",
            metric_name=name,
            dimensions_map={"ApiId": self._api.api_id, "Stage": self._stage.name},
            statistic=statistic,
            period=period,
            label=name if statistic == "Sum" else f"{name} {statistic}",
        )

    def _of_functions(
        self, name: str, statistic: str, period: cdk.Duration = _FIVE_MINUTES
    ) -> list[cloudwatch.Metric]:
        return [
            function.function.metric(
                name, statistic=statistic, period=period, label=f"{function.name} {name.lower()}"
            )
            for function in self._functions
        ]

    def _of_tables(self, name: str, period: cdk.Duration = _FIVE_MINUTES) -> list[cloudwatch.Metric]:
        return [
            cloudwatch.Metric(
                namespace="AWS/DynamoDB",
                metric_name=name,
                dimensions_map={"TableName": table.table_name},
                statistic="Sum",
                period=period,
                label=f"{what} {name}",
            )
            for what, table in zip(("connections", "rooms"), self._tables, strict=True)
        ]

    def _sum(
        self, metrics: Sequence[cloudwatch.Metric], label: str, factors: Sequence[float] | float = 1.0
    ) -> cloudwatch.MathExpression:
        """Metrics added up, each times its factor."""
        each = [factors] * len(metrics) if isinstance(factors, int | float) else factors
        using: dict[str, cloudwatch.IMetric] = {f"m{number}": metric for number, metric in enumerate(metrics)}
        # Metric math has no exponents: 1e-06 would be read as a metric's name.
        terms = [f"{factor:.18f} * FILL({name}, 0)" for name, factor in zip(using, each, strict=True)]
        return cloudwatch.MathExpression(
            expression=" + ".join(terms), using_metrics=using, label=label, period=metrics[0].period
        )

    def _open_connections(self) -> cloudwatch.MathExpression:
        return cloudwatch.MathExpression(
            expression="RUNNING_SUM(FILL(connected, 0) - FILL(disconnected, 0))",
            using_metrics={"connected": self._own("Connected"), "disconnected": self._own("Disconnected")},
            label="more than at the left edge",
            period=_FIVE_MINUTES,
        )

    def _refused(self, period: cdk.Duration = _FIVE_MINUTES) -> list[cloudwatch.Metric]:
        return [
            self._own(name, period=period) for name in ("RefusedCredentials", "RefusedOrigin", "RefusedLimit")
        ]

    # Alarms

    def _alarms(self) -> list[cloudwatch.Alarm]:
        quota = self._stage.account_requests_per_second
        requests = [
            self._gateway("ConnectCount", period=_MINUTE),
            self._gateway("MessageCount", period=_MINUTE),  # both directions
        ]
        refused = self._refused()
        total = "(FILL(r0, 0) + FILL(r1, 0) + FILL(r2, 0))"
        jump = cloudwatch.MathExpression(
            # A few are always there: expired tokens, curious strangers.
            expression=f"IF({total} > 20 AND {total} > FILL(connected, 0), 1, 0)",
            using_metrics={
                **{f"r{number}": metric for number, metric in enumerate(refused)},
                "connected": self._own("Connected"),
            },
            label="more refused than let in",
            period=_FIVE_MINUTES,
        )
        throttled = [
            metric
            for name in ("ReadThrottleEvents", "WriteThrottleEvents")
            for metric in self._of_tables(name)
        ]
        return [
            self._alarm(
                "DeadLetters",
                self._fan_out.dead_letters.metric_approximate_number_of_messages_visible(
                    period=_MINUTE, statistic="Maximum"
                ),
                above=0,
                what="A large send could not be done and waits among the dead letters.",
                do=f"Mend what the worker's log names, then `roomcast redrive --stage {self._stage.name}`.",
            ),
            self._alarm(
                "FunctionErrors",
                self._sum(self._of_functions("Errors", "Sum"), "errors of all functions"),
                above=0,
                periods=3,
                of=2,
                what="A function raised or ran out of time: clients were answered `Internal server error`.",
                do=f"`make logs STAGE={self._stage.name}` shows the traceback.",
            ),
            self._alarm(
                "FunctionThrottles",
                self._sum(self._of_functions("Throttles", "Sum"), "throttled calls of all functions"),
                above=0,
                periods=2,
                what="Lambda refused calls: the account's concurrency is used up.",
                do="Ask for more under Service Quotas, Lambda, Concurrent executions, or find who uses it.",
            ),
            self._alarm(
                "TableThrottles",
                self._sum(throttled, "throttled requests to the tables"),
                above=0,
                periods=3,
                of=2,
                what="DynamoDB refused requests: one room or one moment is too hot for a table on demand.",
                do="Look which table and when; a room over 1,000 joins a second needs to be split.",
            ),
            self._alarm(
                "GatewayErrors",
                self._sum(
                    [self._gateway("IntegrationError"), self._gateway("ExecutionError")],
                    "errors of API Gateway",
                ),
                above=0,
                periods=3,
                of=2,
                what="API Gateway could not call a function, or got no proper answer.",
                do="Compare with FunctionErrors; without those, look at the execution log of the API.",
            ),
            self._alarm(
                "RefusedConnects",
                jump,
                above=0,
                periods=3,
                of=2,
                what="More connects are refused than let in: a rotated secret, a new origin, or an attack.",
                do="The saved query `refused connects` names the reasons.",
            ),
            self._alarm(
                "QueueAge",
                self._fan_out.queue.metric_approximate_age_of_oldest_message(
                    period=_MINUTE, statistic="Maximum"
                ),
                above=60,
                periods=5,
                of=3,
                what="Large sends wait for more than a minute.",
                do="Raise fanout_concurrency, or find what holds the workers up in their log.",
            ),
            self._alarm(
                "RequestQuota",
                self._sum(requests, "share of the account's requests, %", factors=100 / 60 / quota),
                above=80,
                periods=5,
                of=3,
                what=f"This stage alone takes over 80 % of the {quota} requests a second of the account.",
                do="Ask for more under Service Quotas, API Gateway, Throttle rate, or lower fanout_rate.",
            ),
        ]

    def _alarm(
        self,
        id_: str,
        metric: cloudwatch.IMetric,
        *,
        above: float,
        what: str,
        do: str,
        periods: int = 1,
        of: int = 1,
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            id_,
            metric=metric,
            threshold=above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=periods,
            datapoints_to_alarm=of,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"{what} What to do: {do} More: {_PAGES}#{id_.lower()}",
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        alarm.add_ok_action(actions.SnsAction(self.topic))
        return alarm

    # Dashboard

    def _dashboard(self, alarms: list[cloudwatch.Alarm]) -> cloudwatch.Dashboard:
        dashboard = cloudwatch.Dashboard(
            self, "Dashboard", dashboard_name=self._stage.stack_name, default_interval=cdk.Duration.hours(6)
        )
        rows: list[list[cloudwatch.IWidget]] = [
            [
                cloudwatch.AlarmStatusWidget(title="Alarms", alarms=alarms, width=16, height=4),
                self._money(),
            ],
            [
                self._graph(
                    "Open connections: counted every 15 minutes, and the change since the left edge",
                    self._own("OpenConnections", "Maximum", cdk.Duration.minutes(15)),
                    self._open_connections(),
                ),
                self._graph("Connects and refusals", self._own("Connected"), *self._refused()),
                self._graph(
                    "Messages, in and out", self._gateway("MessageCount"), self._gateway("ConnectCount")
                ),
            ],
            [
                self._graph(
                    "Large sends by outcome", *(self._own(n) for n in ("Sent", "Gone", "Failed", "Unknown"))
                ),
                self._graph(
                    "Large sends: from send to post, ms",
                    *(self._own("PublishToPost", statistic) for statistic in ("p50", "p95", "p99")),
                ),
                self._graph(
                    "Queue: jobs, age of the oldest (s), dead letters",
                    self._fan_out.queue.metric_approximate_number_of_messages_visible(label="jobs"),
                    self._fan_out.queue.metric_approximate_age_of_oldest_message(label="age, s"),
                    self._fan_out.dead_letters.metric_approximate_number_of_messages_visible(
                        label="dead letters"
                    ),
                ),
            ],
            [
                self._graph(
                    "Functions: errors and throttles",
                    *self._of_functions("Errors", "Sum"),
                    *self._of_functions("Throttles", "Sum"),
                ),
                self._graph("Functions: duration p99, ms", *self._of_functions("Duration", "p99")),
                self._graph("Cold starts", self._own("ColdStarts")),
            ],
            [
                self._graph(
                    "API Gateway: errors",
                    *(self._gateway(name) for name in ("ClientError", "IntegrationError", "ExecutionError")),
                ),
                self._graph(
                    "API Gateway: latency of the functions, ms",
                    *(self._gateway("IntegrationLatency", statistic) for statistic in ("p50", "p95", "p99")),
                ),
                self._graph(
                    "Share of the account's requests, %",
                    self._sum(
                        [
                            self._gateway("ConnectCount", period=_MINUTE),
                            self._gateway("MessageCount", period=_MINUTE),
                        ],
                        "share, %",
                        factors=100 / 60 / self._stage.account_requests_per_second,
                    ),
                ),
            ],
            [
                self._graph(
                    "DynamoDB: units",
                    *self._of_tables("ConsumedReadCapacityUnits"),
                    *self._of_tables("ConsumedWriteCapacityUnits"),
                ),
                self._graph(
                    "DynamoDB: throttled",
                    *self._of_tables("ReadThrottleEvents"),
                    *self._of_tables("WriteThrottleEvents"),
                ),
                self._graph(
                    "DynamoDB: expired items deleted", *self._of_tables("TimeToLiveDeletedItemCount")
                ),
            ],
        ]
        for row in rows:
            dashboard.add_widgets(*row)
        return dashboard

    def _graph(self, title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
        return cloudwatch.GraphWidget(title=title, left=list(metrics), width=8, height=6)

    def _money(self) -> cloudwatch.SingleValueWidget:
        """What the last day's traffic cost, at the list prices for us-east-1."""
        prices = json.loads(_PRICES.read_text(encoding="utf-8"))["regions"]["us-east-1"]

        def price(name: str) -> float:
            first: dict[str, Any] = prices[name]
            return float(first["tiers"][0][1]) / float(first["per"])

        gb_millisecond = price("gb_seconds") / 1000 / 1024
        priced = [
            (self._gateway("MessageCount", period=_DAY), price("messages")),
            *((metric, price("invocations")) for metric in self._of_functions("Invocations", "Sum", _DAY)),
            *(
                (metric, gb_millisecond * function.memory_mb)
                for metric, function in zip(
                    self._of_functions("Duration", "Sum", _DAY), self._functions, strict=True
                )
            ),
            *((metric, price("reads")) for metric in self._of_tables("ConsumedReadCapacityUnits", _DAY)),
            *((metric, price("writes")) for metric in self._of_tables("ConsumedWriteCapacityUnits", _DAY)),
        ]
        metrics, prices_each = zip(*priced, strict=True)
        total = self._sum(metrics, "US$", prices_each)
        return cloudwatch.SingleValueWidget(
            title="Messages, Lambda and DynamoDB of the last day, US$",
            metrics=[total],
            period=_DAY,
            width=8,
            height=4,
        )

    # Logs

    def _queries(self) -> None:
        queries = {
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
        for id_, (name, *commands) in queries.items():
            logs.CfnQueryDefinition(
                self,
                id_,
                name=f"{self._stage.stack_name}/{name}",
                log_group_names=[function.logs.log_group_name for function in self._functions],
                query_string="\n| ".join(commands),
            )
