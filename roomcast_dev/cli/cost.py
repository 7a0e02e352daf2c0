"""`roomcast cost`: what a stage costs a month, from a forecast or from what CloudWatch has counted."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from roomcast_dev import prices as price_table
from roomcast_dev.cli import pricing, target
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.pricing import Counts, Line, Usage

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

MEASURED_DAYS = 30
_USAGE = Usage()
_PLOT_USERS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_PLOT_WIDTH = 30
_FILE_WIDTH = 240  # so that no line of a Markdown table is broken
_COMPARE_HOURS = (1, 2, 4, 8, 12, 24)
_MAX_QUERIES = 500  # of one GetMetricData (CloudWatch's limit)


_OPTION = {"messages_in": "in", "messages_out": "out", "message_kb": "size", "memory_mb": "memory"}
"""What the option of a field of `Usage` is called, where it has another name."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What people and backends do with the stage: the options that make a `Usage`."""

    users: Annotated[float, typer.Option(help="People who come each day.")] = _USAGE.users
    hours: Annotated[float, typer.Option(help="Hours that each of them is online a day.")] = _USAGE.hours
    messages_in: Annotated[
        float, typer.Option("--in", help="Actions that each sends in an online hour; each gets a reply.")
    ] = _USAGE.messages_in
    messages_out: Annotated[
        float, typer.Option("--out", help="Messages that each gets in an online hour from your backend.")
    ] = _USAGE.messages_out
    room_size: Annotated[float, typer.Option(help="Members of the room of a send (1: to a user).")] = 1
    broadcasts: Annotated[float, typer.Option(help="Sends a day to everybody who is online.")] = 0
    ping: Annotated[float, typer.Option(help="Silent seconds before a ping (0: never).")] = _USAGE.ping
    size: Annotated[float, typer.Option(help="KB of a message.")] = _USAGE.message_kb
    memory: Annotated[float, typer.Option(help="MB of each function; with --stage AWS is asked.")] = (
        _USAGE.memory_mb
    )

    def usage(self) -> Usage:
        """The same as a `Usage`.

        Raises:
            typer.TyperException: a value is impossible; names its option.
        """
        values = asdict(self)
        values |= {"message_kb": values.pop("size"), "memory_mb": values.pop("memory")}
        try:
            return Usage(**values)
        except ValueError as error:
            name, rest = str(error).split(" ", 1)
            options = {
                "messages_in": "in",
                "messages_out": "out",
                "message_kb": "size",
                "memory_mb": "memory",
            }
            option = options.get(name, name).replace("_", "-")
            raise typer.TyperException(f"--{option} {rest}") from None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The deployed stage whose last 30 days count instead of a forecast, if one is named."""

    stage: Annotated[
        str | None, typer.Option(help="Use the last 30 days of this deployed stage instead of a forecast.")
    ] = None
    stack: target.StackOption = None
    connection_minutes: Annotated[
        float,
        typer.Option(
            max=120, min=0, help="With --stage: how long a connection lasts; AWS does not count it."
        ),
    ] = 120


@spread
def cost(
    habits: Habits,
    measured: Measured,
    region: Annotated[str, typer.Option(help="The region whose prices count.")] = "us-east-1",
    months: Annotated[int, typer.Option(min=1, help="Also show the sum of this many months.")] = 12,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the cost over 100 to 1,000,000 users.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show what other habits and hours would cost.")
    ] = False,
) -> None:
    """Estimate a stage's monthly cost and show the sums.

    List prices without the free tier. Your own backend, and the alarms and metrics of monitoring, are not
    included.

    \b
    Example:
      roomcast cost --users 5000 --hours 2 --in 4 --out 30 --room-size 20
      roomcast cost --users 5000 --plot
      roomcast cost --stage prod
    """
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    usage = habits.usage()
    try:
        table = price_table.prices()
        prices = table.of(region)
    except ValueError as error:
        raise typer.TyperException(str(error)) from None
    if measured.stage is not None or measured.stack is not None:
        if plot or compare:
            raise typer.BadParameter(
                "counts of a deployed stage cannot be forecast", param_hint="--plot, --compare"
            )
        name = target.stack_name(measured.stage, measured.stack)
        counts = measure(
            name,
            connection_minutes=measured.connection_minutes,
            message_kb=usage.message_kb,
        )
        title = f"{name}: the last {MEASURED_DAYS} days"
    else:
        counts = pricing.count(usage)
        title = (
            f"{usage.users:,.0f} users a day, {usage.hours:g} h online;"
            f" {usage.messages_in:g} in, {usage.messages_out:g} out an hour"
        )
    console.print(f"{title}; {region}, prices of {table.date}\n", highlight=False)
    if plot:
        _plot(console, usage, prices)
    elif compare:
        _compare(console, usage, prices)
    else:
        _show(console, pricing.bill(counts, prices), months)


def measure(stack: str, *, connection_minutes: float, message_kb: float) -> Counts:
    """The quantities that CloudWatch has counted for a stack in the last 30 days.

    Not counted by AWS, and so taken from the arguments: how long connections last, and the size of a
    message (each counts as one unit of 32 KB). Half of the messages count as going out.

    Args:
        stack: its name.
        connection_minutes: how long a connection lasts.
        message_kb: KB of a message.
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
    sums: dict[str, float] = {}
    gb_seconds: dict[str, float] = {}
    memory_mb = _memory(functions)
    for (_, metric, of), value in zip(wanted, _sums(target.client("cloudwatch"), wanted), strict=True):
        sums[metric] = sums.get(metric, 0) + value
        if metric == "Duration":
            mb = memory_mb[of["FunctionName"]]
            part = f"at {mb:,} MB"
            gb_seconds[part] = gb_seconds.get(part, 0) + value / 1000 * mb / 1024

    def total(metric: str) -> float:
        return sums.get(metric, 0)

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


def _sums(
    client: "CloudWatchClient", wanted: Sequence[tuple[str, str, Mapping[str, str]]]
) -> Iterator[float]:
    """The sum of each metric over the measured days, in the order asked for."""
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
                    "Period": 86400,
                    "Stat": "Sum",
                },
            }
            for index, (namespace, metric, dimensions) in enumerate(wanted[start : start + _MAX_QUERIES])
        ]
        found: dict[str, float] = {}
        for page in client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=end - timedelta(days=MEASURED_DAYS), EndTime=end
        ):
            for result in page["MetricDataResults"]:
                found[result["Id"]] = found.get(result["Id"], 0) + sum(result["Values"])
        yield from (found.get(query["Id"], 0) for query in queries)


def _show(console: Console, lines: Sequence[Line], months: int) -> None:
    table = _table(console, "Component", "Made of", ">Quantity", "Price", ">$ a month")
    for line in lines:
        parts = " + ".join(f"{name} {_short(quantity)}" for name, quantity in line.parts.items())
        quantity = f"{_short(line.quantity)} {line.price.unit}"
        table.add_row(line.price.name, parts, quantity, _price(line), _dollars(line.dollars))
    total = pricing.total(lines)
    if console.is_terminal:
        table.add_section()
    table.add_row("A month", "", "", "", _dollars(total))
    if months not in (1, 12):
        table.add_row(f"{months} months", "", "", "", _dollars(total * months))
    table.add_row("A year", "", "", "", _dollars(total * 12))
    console.print(table)


def _price(line: Line) -> str:
    """The tiers that the quantity reaches, as `$1, then $0.8 a million`."""
    below = [0.0, *(up_to for up_to, _ in line.price.tiers if up_to is not None)]
    reached = [
        dollars for start, (_, dollars) in zip(below, line.price.tiers, strict=True) if start <= line.quantity
    ]
    tiers = ", then ".join(f"${dollars:.10f}".rstrip("0").rstrip(".") for dollars in reached)
    units = {1: f"a {line.price.unit}", 1_000_000: "a million"}
    per = units.get(int(line.price.per), f"for {line.price.per:,.0f}")
    return f"{tiers} {per}"


def _compare(console: Console, usage: Usage, prices: Mapping[str, price_table.Price]) -> None:
    def month(of: Usage) -> float:
        return pricing.total(pricing.bill(pricing.count(of), prices))

    sizes = [replace(usage, users=usage.users * factor) for factor in (1, 10, 100)]
    habits = _table(console, "$ a month with", *(f">{size.users:,.0f} users" for size in sizes))
    for name in pricing.choices(usage):
        habits.add_row(name, *(_dollars(month(pricing.choices(size)[name])) for size in sizes))
    console.print(habits)
    console.print()
    hours = _table(console, "$ a month with", *(f">{size.users:,.0f} users" for size in sizes))
    for hour in _COMPARE_HOURS:
        hours.add_row(
            f"{hour} h online a day", *(_dollars(month(replace(size, hours=hour))) for size in sizes)
        )
    console.print(hours)


def _plot(console: Console, usage: Usage, prices: Mapping[str, price_table.Price]) -> None:
    table = _table(console, ">Users", ">$ a month", "each + is 10 times as much", ">$ a user", "Most of it")
    bills = {users: pricing.bill(pricing.count(replace(usage, users=users)), prices) for users in _PLOT_USERS}
    most = math.log10(max(10.0, *map(pricing.total, bills.values())))
    for users, lines in bills.items():
        dollars = pricing.total(lines)
        length = round(_PLOT_WIDTH * max(0.0, math.log10(dollars)) / most)
        decades = {round(_PLOT_WIDTH * decade / most) for decade in range(1, math.ceil(most) + 1)}
        bar = "".join("+" if at in decades else "█" for at in range(1, length + 1))
        first = max(lines, key=lambda line: line.dollars)
        share = f"{first.price.name} {first.dollars / dollars:.0%}"
        table.add_row(f"{users:,}", _dollars(dollars), bar, f"{dollars / users:.4f}", share)
    console.print(table)


def _table(console: Console, *columns: str) -> Table:
    """A table; on a file or a pipe it is Markdown, so that it can be pasted into a document."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN, highlight=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return table


def _dollars(dollars: float) -> str:
    return f"{dollars:,.0f}" if dollars >= 1000 else f"{dollars:,.2f}"


def _short(quantity: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if quantity >= size:
            return f"{quantity / size:,.2f}{letter}"
    return f"{quantity:,.2f}".rstrip("0").rstrip(".")
