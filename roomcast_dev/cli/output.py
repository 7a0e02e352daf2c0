"""What a command prints: a line for people, or one JSON value a line for programs."""

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def print_json(value: Any) -> None:
    """Print a value as one line of JSON.

    All characters outside ASCII are escaped: no console changes the line, and nothing in it steers one.
    """
    print(json.dumps(value, default=str, separators=(",", ":")), flush=True)
