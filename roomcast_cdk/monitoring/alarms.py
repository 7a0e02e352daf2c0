"""The alarms of a stage, each with what to do, and the topic that they notify."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from roomcast_cdk.findings import accept
from roomcast_cdk.monitoring.metrics import FIVE_MINUTES, MINUTE, Metrics, total
from roomcast_cdk.shared import Shared

_PAGES = "docs/operations.md"


def topic(scope: Construct, *, shared: Shared) -> sns.ITopic:
    """The topic that alarms notify: the stage's `alarm_topic_arn`, or a new one that `alarm_email` gets."""
    if shared.stage.alarm_topic_arn:
        return sns.Topic.from_topic_arn(scope, "Alarms", shared.stage.alarm_topic_arn)
    topic = sns.Topic(scope, "Alarms", master_key=shared.key, enforce_ssl=True)
    # A topic with a policy of its own has no longer the default one, which lets CloudWatch publish.
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            sid="AlarmsOfThisAccount",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(scope).account}},
        )
    )
    if shared.stage.alarm_email:
        subscription = topic.add_subscription(subscriptions.EmailSubscription(shared.stage.alarm_email))
        accept(
            subscription,
            "A lost e-mail loses no alarm: CloudWatch and the dashboard show its state.",
            "Serverless-SNSRedrivePolicy",
        )
    if shared.key is None:
        # CloudWatch may not use AWS's key for SNS, so there is none that costs nothing.
        accept(topic, "Holds only the names of alarms; customer_key encrypts it.", "CKV_AWS_26")
    return topic


def alarms(scope: Construct, *, metrics: Metrics, topic: sns.ITopic) -> Sequence[cloudwatch.Alarm]:
    """Make all alarms; each notifies the topic when it fires and when it clears."""
    stage = metrics.stage

    def alarm(
        id_: str,
        metric: cloudwatch.IMetric,
        *,
        above: float,
        what: str,
        do: str,
        periods: int = 1,
        of: int = 1,
    ) -> cloudwatch.Alarm:
        made = cloudwatch.Alarm(
            scope,
            id_,
            metric=metric,
            threshold=above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=periods,
            datapoints_to_alarm=of,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"{what} What to do: {do} More: {_PAGES}#{id_.lower()}",
        )
        made.add_alarm_action(actions.SnsAction(topic))
        made.add_ok_action(actions.SnsAction(topic))
        return made

    return [
        alarm(
            "DeadLetters",
            metrics.dead_letters.metric_approximate_number_of_messages_visible(
                period=MINUTE, statistic="Maximum"
            ),
            above=0,
            what="A large send could not be done and waits in the dead-letter queue.",
            do=f"Fix what the worker's log names, then `roomcast redrive --stage {stage.name}`.",
        ),
        alarm(
            "FunctionErrors",
            total(metrics.of_functions("Errors", "Sum"), "errors of all functions"),
            above=0,
            periods=3,
            of=2,
            what="A function raised or ran out of time: clients were answered `Internal server error`.",
            do=f"`make logs STAGE={stage.name}` shows the traceback.",
        ),
        alarm(
            "FunctionThrottles",
            total(metrics.of_functions("Throttles", "Sum"), "throttled calls of all functions"),
            above=0,
            # Two periods: FILL can hold an alarm of one period in its state when the newest value comes late.
            periods=2,
            of=1,
            what="Lambda refused calls: the account's concurrency is used up.",
            do="Ask for more under Service Quotas, Lambda, Concurrent executions, or find what uses it.",
        ),
        alarm(
            "TableThrottles",
            total(
                metrics.of_tables("ReadThrottleEvents", index=True)
                + metrics.of_tables("WriteThrottleEvents", index=True),
                "throttled requests to the tables",
            ),
            above=0,
            periods=3,
            of=2,
            what="DynamoDB refused requests: one room or one moment is too hot for an on-demand table.",
            do="See which table and when; a room with over 1,000 joins a second needs to be split.",
        ),
        alarm(
            "Gaps",
            metrics.own("Gaps"),
            above=100,
            periods=3,
            of=2,
            what="Many clients came back to rooms whose history does not reach as far as they were away.",
            do="They have reloaded their state. See whether the outage was longer than the history.",
        ),
        alarm(
            "GatewayErrors",
            total(
                [metrics.gateway("IntegrationError"), metrics.gateway("ExecutionError")],
                "errors of API Gateway",
            ),
            above=0,
            periods=3,
            of=2,
            what="API Gateway could not call a function, or got no proper answer.",
            do="Compare with FunctionErrors; without those, read the API's execution log.",
        ),
        alarm(
            "RefusedConnects",
            _more_refused_than_admitted(metrics),
            above=0,
            periods=3,
            of=2,
            what="More connects are refused than admitted: a rotated secret, a new origin, or an attack.",
            do="The saved query `refused connects` names the reasons.",
        ),
        alarm(
            "KeysUnavailable",
            metrics.own("KeysUnavailable"),
            above=0,
            periods=3,
            of=2,
            what="Connects are answered 503: no key can be read to check their tokens with.",
            do="The log line `cannot read the secret` (or `the public keys`) says why.",
        ),
        alarm(
            "QueueAge",
            metrics.queue.metric_approximate_age_of_oldest_message(period=MINUTE, statistic="Maximum"),
            above=60,
            periods=5,
            of=3,
            what="Large sends wait for more than a minute.",
            do="Look for timeouts in the worker's log; without any, raise fanout_concurrency.",
        ),
        alarm(
            "RequestQuota",
            metrics.share_of_quota("share of the account's requests, %"),
            above=80,
            periods=5,
            of=3,
            what=f"This stage takes over 80 % of the account's {stage.requests_quota} requests a second.",
            do="Ask for more under Service Quotas, API Gateway, Throttle rate, or lower fanout_rate.",
        ),
        alarm(
            "Concurrency",
            cloudwatch.Metric(
                namespace="AWS/Lambda",
                metric_name="ClaimedAccountConcurrency",
                statistic="Maximum",
                period=MINUTE,
            ),
            above=0.8 * stage.account_concurrency,
            periods=5,
            of=3,
            what=f"Over 80 % of the account's {stage.account_concurrency} concurrent executions are used.",
            do="Ask for more under Service Quotas, Lambda, Concurrent executions.",
        ),
    ]


def _more_refused_than_admitted(metrics: Metrics) -> cloudwatch.MathExpression:
    """1 in a period that refused more than 20 connects, and more than it admitted.

    In the form of CloudWatch's own examples, `IF(a > 1 AND b > 2, ...)`: an array as in `MAX([20, a])` may
    hold only time series, and CloudWatch refuses the alarm.
    """
    refused = metrics.refused()
    names = [f"r{number}" for number in range(len(refused))]
    all_refused = "(" + " + ".join(f"FILL({name}, 0)" for name in names) + ")"
    return cloudwatch.MathExpression(
        # A few are always there: expired tokens, curious strangers.
        expression=f"IF({all_refused} > 20 AND {all_refused} > FILL(connected, 0), 1, 0)",
        using_metrics={**dict(zip(names, refused, strict=True)), "connected": metrics.own("Connected")},
        label="more refused than admitted",
        period=FIVE_MINUTES,
    )
