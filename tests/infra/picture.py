"""The dashboard of `prod` drawn as an SVG: what is where, and which metrics it shows.

`python -m tests.infra.picture` writes `docs/dashboard.svg` anew.
"""

import json
import math
import re
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aws_cdk as cdk

from roomcast_cdk.stage import Stage
from stacks.websocket_stack import WebSocketStack
from tests.infra.conftest import CONTEXT, ROOT
from tests.infra.resources import Resources

PICTURE = ROOT / "docs" / "dashboard.svg"
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")
_UNIT = 40  # pixels of one column of the dashboard's 24, and of one row


def draw(body: dict[str, Any]) -> str:
    """Draw a dashboard's body. The curves are invented: what is real is which metrics are where."""
    widgets = body["widgets"]
    height = max(widget["y"] + widget["height"] for widget in widgets) * _UNIT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * _UNIT} {height}" '
        'font-family="sans-serif" font-size="12" fill="#16191f">',
        f'<rect width="{24 * _UNIT}" height="{height}" fill="#f2f3f3"/>',
    ]
    for widget in widgets:
        x, y = widget["x"] * _UNIT + 4, widget["y"] * _UNIT + 4
        wide, high = widget["width"] * _UNIT - 8, widget["height"] * _UNIT - 8
        properties = widget["properties"]
        lines.append(
            f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="4" fill="#fff" stroke="#8895a7"/>'
        )
        title = _text(x + 12, y + 22, properties["title"], width=wide // 8, weight="bold")
        lines += title
        top = y + 22 + 15 * len(title)
        if alarms := properties.get("alarms"):
            lines += _alarms(x + 12, top, wide - 24, alarms)
        elif properties.get("view") == "singleValue":
            lines += _values(x + 12, top, wide - 24, _labels(properties["metrics"]))
        else:
            lines += _chart(x + 12, top, wide - 24, y + high - top - 10, _labels(properties["metrics"]))
    return "\n".join([*lines, "</svg>", ""])


def _alarms(x: int, y: int, wide: int, arns: list[Any]) -> list[str]:
    """A green field for each alarm, as CloudWatch draws those that are quiet."""
    across = 4
    field = wide // across
    return [
        f'<rect x="{x + number % across * field}" y="{y + number // across * 30}" width="{field - 6}" '
        'height="24" rx="3" fill="#d5f0dc" stroke="#1d8102"/>'
        f'<text x="{x + number % across * field + 8}" y="{y + number // across * 30 + 16}" font-size="11">'
        f"{escape(_alarm(arn))}</text>"
        for number, arn in enumerate(arns)
    ]


def _alarm(arn: Any) -> str:
    """The name of an alarm, without its stage: what the template's reference to it is called."""
    text = json.dumps(arn)
    match = re.search(r"([A-Z][A-Za-z]+?)(?:Alarm)?[0-9A-F]{8}", text) or re.search(r"([A-Za-z]+)\W*$", text)
    return (match[1] if match else "alarm").removeprefix("MonitoringAlarms").removeprefix("Alarms")


def _values(x: int, y: int, wide: int, labels: list[str]) -> list[str]:
    """Numbers next to each other."""
    step = wide // max(1, len(labels))
    return [
        f'<text x="{x + number * step}" y="{y + 34}" font-size="26">0.00</text>'
        f'<text x="{x + number * step}" y="{y + 54}">{escape(label)}</text>'
        for number, label in enumerate(labels)
    ]


def _chart(x: int, y: int, wide: int, high: int, labels: list[str]) -> list[str]:
    """A grid, a curve for each label, and the legend below."""
    rows: list[list[str]] = [[]]
    for label in labels:
        if sum(len(each) + 4 for each in rows[-1]) + len(label) > wide // 7:
            rows.append([])
        rows[-1].append(label)
    plot = high - 17 * len(rows) - 8
    lines = [f'<path d="M{x} {y + plot * part // 4}h{wide}" stroke="#d5dbdb"/>' for part in range(5)]
    for number in range(len(labels)):
        level = plot * (0.25 + 0.6 * number / max(1, len(labels)))
        wave = [level + plot * 0.08 * math.sin(step / (2 + number) + number) for step in range(25)]
        points = " ".join(f"{x + wide * step / 24:.0f},{y + at:.0f}" for step, at in enumerate(wave))
        colour = _COLOURS[number % len(_COLOURS)]
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    number = 0
    for row, names in enumerate(rows):
        at, line = x, y + plot + 22 + 17 * row
        for name in names:
            colour = _COLOURS[number % len(_COLOURS)]
            lines.append(f'<rect x="{at}" y="{line - 9}" width="9" height="9" fill="{colour}"/>')
            lines.append(f'<text x="{at + 13}" y="{line}" font-size="11">{escape(name)}</text>')
            at, number = at + 13 + 7 * len(name) + 8, number + 1
    return lines


def _labels(metrics: list[list[Any]]) -> list[str]:
    """What the legend says."""
    about = [line[-1] for line in metrics if isinstance(line[-1], dict)]
    return [entry["label"] for entry in about if entry.get("label") and entry.get("visible", True)]


def _text(x: int, y: int, text: str, *, width: int, weight: str = "normal") -> list[str]:
    words = text.split()
    rows = [""]
    for word in words:
        if len(rows[-1]) + len(word) >= width:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    return [
        f'<text x="{x}" y="{y + 15 * number}" font-weight="{weight}">{escape(row)}</text>'
        for number, row in enumerate(rows)
    ]


def main() -> None:
    with TemporaryDirectory() as directory:
        app = cdk.App(outdir=directory, context=CONTEXT | {"aws:cdk:enable-path-metadata": True})
        WebSocketStack(app, "prod", stage=Stage.from_context("prod", CONTEXT["stages"]))
        app.synth()
        resources = Resources(json.loads((Path(directory) / "prod.template.json").read_text()))
    PICTURE.write_text(draw(resources.dashboard()))


if __name__ == "__main__":
    main()
