"""The dashboard of `prod` drawn as an SVG: what is where, and which metrics it shows.

`python -m tests.infra.picture` writes `docs/dashboard.svg` anew.
"""

import json
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
_UNIT = 40  # pixels of one column of the dashboard's 24, and of one row


def draw(body: dict[str, Any]) -> str:
    """Draw a dashboard's body."""
    widgets = body["widgets"]
    height = max(widget["y"] + widget["height"] for widget in widgets) * _UNIT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * _UNIT} {height}" '
        'font-family="sans-serif" font-size="12">'
    ]
    for widget in widgets:
        x, y = widget["x"] * _UNIT, widget["y"] * _UNIT
        wide, high = widget["width"] * _UNIT - 8, widget["height"] * _UNIT - 8
        properties = widget["properties"]
        lines.append(
            f'<rect x="{x + 4}" y="{y + 4}" width="{wide}" height="{high}" rx="4" '
            'fill="#fff" stroke="#8895a7"/>'
        )
        lines += _text(x + 14, y + 24, properties["title"], width=40, weight="bold")
        shown = properties.get("alarms") and [f"{len(properties['alarms'])} alarms: green, red or no data"]
        for number, label in enumerate(shown or _labels(properties["metrics"])):
            lines += _text(x + 14, y + 62 + 16 * number, label, width=46)
    return "\n".join([*lines, "</svg>", ""])


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
