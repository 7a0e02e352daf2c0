"""`roomcast approve`: the question before a stage that keeps data is deployed."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from roomcast_dev.cli import target


def approve(
    stage: Annotated[str, typer.Option(help="The stage, for example prod.")],
    assembly: Annotated[Path, typer.Option(help="The directory that `cdk synth --output` wrote.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Ask before a stage that keeps data is deployed.

    `make deploy` runs this after it has shown what changes. An assembly of another stage is an error.

    \b
    Example:
      roomcast approve --stage prod --assembly cdk.out/prod
    """
    stack, properties = _stack(assembly)
    expected = target.stack_name(stage, None)
    if stack != expected:
        raise typer.TyperException(
            f"{assembly} has the stack {stack}, not {expected}: `make synth STAGE={stage}`"
        )
    if yes or not properties.get("terminationProtection"):
        return
    if not sys.stdin.isatty():
        raise typer.TyperException(
            f"{stack} keeps data, and there is nobody to ask here: add --yes (make: YES=1)"
        )
    if not typer.confirm(f"Deploy {stack}, which keeps data?"):
        raise typer.TyperException(f"{stack} was left as it is; nothing was deployed")


def _stack(assembly: Path) -> tuple[str, dict[str, Any]]:
    try:
        artifacts = json.loads((assembly / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise typer.TyperException(f"{assembly} is not an assembly of `make synth`: {error}") from None
    stacks = [
        (artifact["properties"].get("stackName", name), artifact["properties"])
        for name, artifact in artifacts.items()
        if artifact["type"] == "aws:cloudformation:stack"
    ]
    if len(stacks) != 1:
        raise typer.TyperException(f"{assembly} has {len(stacks)} stacks; an assembly of a stage has one")
    return stacks[0]
