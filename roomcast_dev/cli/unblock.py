"""`roomcast unblock`: a stage whose last deployment failed can be deployed again."""

import sys
from typing import Annotated

import typer

from roomcast_dev.cli import stack_state, target


def unblock(
    stage: Annotated[str | None, typer.Option(help="The stage, for example prod.")] = None,
    stack: target.StackOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a stage be deployed again after a failed deployment.

    A stack whose creation failed is deleted, and an update that could not be undone is rolled back, each
    after a question. Data that the stage keeps is not deleted. Where nothing is in the way, nothing is done.

    \b
    Example:
      roomcast unblock --stage prod
    """
    name = target.stack_name(stage, stack)

    def confirm(question: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise typer.TyperException(f"{question} There is nobody to ask here: add --yes (make: YES=1)")
        return typer.confirm(question)

    try:
        stack_state.clear(
            target.client("cloudformation", target.region(stage)),
            name,
            confirm=confirm,
            say=lambda line: print(line, file=sys.stderr),
        )
    except stack_state.StackStateError as error:
        raise typer.TyperException(str(error)) from None
