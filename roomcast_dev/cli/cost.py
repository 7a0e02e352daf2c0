"""`roomcast cost`: what a stage costs a month, from a forecast or from what it has used."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from roomcast_dev import prices as price_table
from roomcast_dev.cli import measured_use, pricing, target
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, draw, print_json
from roomcast_dev.cli.pricing import Line, Usage

_ROOM_SIZES = (20, 200, 1_000)
_PRESENCE = {
    "naive": "every connect and disconnect, to all",
    "list": "list (above 100 users: count)",
    "count": "count",
    "": "none",
}
_USAGE = Usage()
_PLOT_USERS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_PLOT_WIDTH = 30
_WIDE = 120  # columns; in a narrower terminal the table of sums would wrap
_FILE_WIDTH = 240  # so that no line of a Markdown table is broken
_COMPARE_HOURS = (1, 2, 4, 8, 12, 24)


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
    published: Annotated[
        float, typer.Option(help="Messages that each publishes in such a room in an online hour.")
    ] = 0
    coalesced: Annotated[
        float, typer.Option(help="Sends to a last value for each one that its window lets through (1: all).")
    ] = 1
    broadcasts: Annotated[float, typer.Option(help="Sends a day to everybody who is online.")] = 0
    events: Annotated[bool, typer.Option("--events", help="With all kinds of server events.")] = False
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
    presence: Annotated[
        bool, typer.Option("--presence", help="Show what presence would add, by the size of rooms.")
    ] = False,
    as_json: Json = False,
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
    forecast = measured.stage is None and measured.stack is None
    if not forecast:
        if plot or compare or presence:
            raise typer.BadParameter(
                "counts of a deployed stage cannot be forecast", param_hint="--plot, --compare, --presence"
            )
        name = target.stack_name(measured.stage, measured.stack)
        counts = measured_use.measure(
            name,
            connection_minutes=measured.connection_minutes,
            message_kb=usage.message_kb,
        )
        title = f"{name}: the last {measured_use.DAYS} days"
    else:
        counts = pricing.count(usage)
        title = (
            f"{usage.users:,.0f} users a day, {usage.hours:g} h online;"
            f" {usage.messages_in:g} in, {usage.messages_out:g} out an hour"
        )
    lines = pricing.bill(counts, prices)
    if as_json:
        print_json(_data(lines, region, table.date))
        return
    if not (plot or compare or presence):
        console.print(_headline(pricing.total(lines), usage.users if forecast else None), highlight=False)
    console.print(f"{title}\n{region}, prices of {table.date}\n", highlight=False)
    if plot:
        _plot(console, usage, prices)
    elif compare:
        _compare(console, usage, prices)
    elif presence:
        _presence(console, usage, prices)
    else:
        _show(console, lines, months)


def _headline(month: float, users: float | None) -> str:
    """What most people want to know, in one line."""
    each = f", {_cents(month / users)} a user" if users else ""
    return f"About ${_dollars(month)} a month{each}"


def _cents(dollars: float) -> str:
    return f"{dollars * 100:.2g} cents" if dollars < 1 else f"${dollars:,.2f}"


def _data(lines: Sequence[Line], region: str, date: str) -> dict[str, Any]:
    """What `--json` prints."""
    components = [
        {
            "component": line.price.name,
            "quantity": line.quantity,
            "unit": line.price.unit,
            "parts": dict(line.parts),
            "dollars": line.dollars,
        }
        for line in lines
    ]
    return {
        "region": region,
        "prices": date,
        "dollarsAMonth": pricing.total(lines),
        "components": components,
    }


def _show(console: Console, lines: Sequence[Line], months: int) -> None:
    """Print the table. Where the terminal is too narrow for the sums, they are below it."""
    sums = {line.price.name: _sum(line) for line in lines}
    wide = console.width >= _WIDE
    heads = ("Component", "Made of", ">Quantity", "Price", ">$ a month")
    table = _table(console, *(head for head in heads if wide or head != "Made of"))

    def add(component: str, quantity: str, price: str, dollars: str, *, style: str = "") -> None:
        made_of = [sums.get(component, "")] if wide else []
        table.add_row(component, *made_of, quantity, price, dollars, style=style)

    for line in lines:
        quantity = f"{_short(line.quantity)} {line.price.unit}"
        add(line.price.name, quantity, _price(line), _dollars(line.dollars))
    total = pricing.total(lines)
    if console.is_terminal:
        table.add_section()
    add("A month", "", "", _dollars(total), style="bold" if console.is_terminal else "")
    if months not in (1, 12):
        add(f"{months} months", "", "", _dollars(total * months))
    add("A year", "", "", _dollars(total * 12))
    draw(console, table)
    if not wide:
        grid = Table.grid(padding=(0, 2))
        for name, made_of in sums.items():
            grid.add_row(Text(name, style="bold"), made_of)
        draw(console, grid)


def _sum(line: Line) -> str:
    """What a quantity is made of."""
    return (
        " + ".join(f"{name} {_short(quantity)}" for name, quantity in line.parts.items() if quantity) or "-"
    )


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
    draw(console, habits)
    console.print()
    hours = _table(console, "$ a month with", *(f">{size.users:,.0f} users" for size in sizes))
    for hour in _COMPARE_HOURS:
        hours.add_row(
            f"{hour} h online a day", *(_dollars(month(replace(size, hours=hour))) for size in sizes)
        )
    draw(console, hours)


def _presence(console: Console, usage: Usage, prices: Mapping[str, price_table.Price]) -> None:
    table = _table(console, "$ a month for presence in rooms of", *(f">{size:,}" for size in _ROOM_SIZES))
    for mode, name in _PRESENCE.items():
        bills = (
            pricing.bill(pricing.presence(usage, size, mode), prices) if mode else [] for size in _ROOM_SIZES
        )
        table.add_row(name, *(_dollars(pricing.total(lines)) for lines in bills))
    draw(console, table)


def _plot(console: Console, usage: Usage, prices: Mapping[str, price_table.Price]) -> None:
    width = _PLOT_WIDTH if console.width >= _WIDE else _PLOT_WIDTH // 2
    table = _table(console, ">Users", ">$ a month", "+ is 10 times", ">$ a user", "Most of it")
    bills = {users: pricing.bill(pricing.count(replace(usage, users=users)), prices) for users in _PLOT_USERS}
    most = math.log10(max(10.0, *map(pricing.total, bills.values())))
    for users, lines in bills.items():
        dollars = pricing.total(lines)
        length = round(width * max(0.0, math.log10(dollars)) / most)
        decades = {round(width * decade / most) for decade in range(1, math.ceil(most) + 1)}
        bar = "".join("+" if at in decades else "█" for at in range(1, length + 1))
        first = max(lines, key=lambda line: line.dollars)
        share = f"{first.price.name} {first.dollars / dollars:.0%}"
        table.add_row(f"{users:,}", _dollars(dollars), bar, f"{dollars / users:.4f}", share)
    draw(console, table)


def _table(console: Console, *columns: str) -> Table:
    """A table; on a file or a pipe it is Markdown, so that it can be pasted into a document."""
    if console.is_terminal:
        table = Table(box=box.SIMPLE_HEAD, highlight=False, pad_edge=False, collapse_padding=True)
    else:
        table = Table(box=box.MARKDOWN, highlight=False)
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
