"""What a command prints: a line for people, or one JSON value a line for programs."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def print_json(value: Any) -> None:
    """Print a value as one line of JSON.

    All characters outside ASCII are escaped: no console changes the line, and nothing in it steers one.
    """
    print(json.dumps(value, default=str, separators=(",", ":")), flush=True)


def draw(console: "Console", shown: "RenderableType") -> None:
    """Print what Rich draws, without the blanks around it."""
    with console.capture() as capture:
        console.print(shown, highlight=False)
    print("\n".join(line.rstrip() for line in capture.get().split("\n")).strip("\n"))
