"""What CloudWatch has counted of a deployed stage's use."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from roomcast_dev.cli import target
from roomcast_dev.cli.pricing import Counts

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

DAYS = 30
_MAX_QUERIES = 500  # of one GetMetricData (CloudWatch's limit)


def measure(
    stack: str, *, connection_minutes: float, message_kb: float, seconds: int = DAYS * 86400
) -> Counts:
    """The quantities that CloudWatch has counted for a stack.

    Not counted by AWS, and so taken from the arguments: how long connections last, and the size of a
    message (each counts as one unit of 32 KB). Half of the messages count as going out.

    Args:
        stack: its name.
        connection_minutes: how long a connection lasts.
        message_kb: KB of a message.
        seconds: how far to look back.
    """
    resources = target.resources(stack)
    apis = resources.get("AWS::ApiGatewayV2::Api", [])
    functions = resources.get("AWS::Lambda::Function", [])
    tables = resources.get("AWS::DynamoDB::Table", [])
    queues = [url.rsplit("/", 1)[-1] for url in resources.get("AWS::SQS::Queue", [])]
    logs = resources.get("AWS::Logs::LogGroup", [])
    wanted: list[tuple[str, str, Mapping[str, str]]] = [
        *(
            ("AWS/ApiGateway", metric, {"ApiId": api})
            for api in apis
            for metric in ("ConnectCount", "MessageCount")
        ),
        *(
            ("AWS/Lambda", metric, {"FunctionName": f})
            for f in functions
            for metric in ("Invocations", "Duration")
        ),
        *(
            ("AWS/DynamoDB", metric, {"TableName": table, **index})
            for table in tables
            for metric in ("ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits")
            for index in ({}, {"GlobalSecondaryIndexName": "UserIdIndex"})
        ),
        *(
            ("AWS/SQS", metric, {"QueueName": queue})
            for queue in queues
            for metric in (
                "NumberOfMessagesSent",
                "NumberOfMessagesReceived",
                "NumberOfMessagesDeleted",
                "NumberOfEmptyReceives",
            )
        ),
        *(("AWS/Logs", "IncomingBytes", {"LogGroupName": group}) for group in logs),
    ]
    totals: dict[str, float] = {}
    gb_seconds: dict[str, float] = {}
    memory_mb = _memory(functions)
    for (_, metric, of), value in zip(
        wanted, sums(target.client("cloudwatch"), wanted, seconds=seconds), strict=True
    ):
        totals[metric] = totals.get(metric, 0) + value
        if metric == "Duration":
            mb = memory_mb[of["FunctionName"]]
            part = f"at {mb:,} MB"
            gb_seconds[part] = gb_seconds.get(part, 0) + value / 1000 * mb / 1024

    def total(metric: str) -> float:
        return totals.get(metric, 0)

    minutes = f"{total('ConnectCount'):,.0f} connects of {connection_minutes:g} minutes"
    return {
        "connection_minutes": {minutes: total("ConnectCount") * connection_minutes},
        "messages": {"in and out": total("MessageCount")},
        "invocations": {"calls": total("Invocations")},
        "gb_seconds": gb_seconds or {"none": 0},
        "writes": {"consumed": total("ConsumedWriteCapacityUnits")},
        "reads": {"consumed": total("ConsumedReadCapacityUnits")},
        "queue_requests": {
            "sent": total("NumberOfMessagesSent"),
            "received": total("NumberOfMessagesReceived"),
            "deleted": total("NumberOfMessagesDeleted"),
            "idle polls": total("NumberOfEmptyReceives"),
        },
        "secrets": {"the JWT secret": 1},
        "secret_calls": {"at most": total("ConnectCount")},
        "log_gb": {"ingested": total("IncomingBytes") / 1024**3},
        "out_gb": {f"half, of {message_kb:g} KB": total("MessageCount") / 2 * message_kb / 1024**2},
    }


def _memory(functions: Sequence[str]) -> Mapping[str, int]:
    """The memory of each function in MB: the fan-out worker has another than the rest."""
    lambda_ = target.client("lambda")
    return {name: lambda_.get_function_configuration(FunctionName=name)["MemorySize"] for name in functions}


def sums(
    client: "CloudWatchClient", wanted: Sequence[tuple[str, str, Mapping[str, str]]], *, seconds: int
) -> Iterator[float]:
    """The sum of each metric until now, in the order asked for."""
    end = datetime.now(UTC)
    for start in range(0, len(wanted), _MAX_QUERIES):
        queries: list[Any] = [
            {
                "Id": f"m{index}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": namespace,
                        "MetricName": metric,
                        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                    },
                    "Period": min(seconds, 86400),
                    "Stat": "Sum",
                },
            }
            for index, (namespace, metric, dimensions) in enumerate(wanted[start : start + _MAX_QUERIES])
        ]
        found: dict[str, float] = {}
        for page in client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=end - timedelta(seconds=seconds), EndTime=end
        ):
            for result in page["MetricDataResults"]:
                found[result["Id"]] = found.get(result["Id"], 0) + sum(result["Values"])
        yield from (found.get(query["Id"], 0) for query in queries)
