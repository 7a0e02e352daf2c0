"""`roomcast top`: a stage live, on the whole screen."""

import sys
from typing import Annotated

import typer

from roomcast_dev.cli.inspect import ask
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.target import Place
from roomcast_dev.cli.watch import Watch


@spread
def top(
    place: Place,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 2,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before an expensive list.")] = False,
) -> None:
    """Show a stage live, on the whole screen.

    Connections, users and rooms, the queue, and of a deployed stage rates, errors and what an hour costs.
    Enter looks into a row, k closes the connections of a user, q ends it. Each look reads the connections
    table.

    \b
    Example:
      roomcast top
      roomcast top --stage prod --every 10
    """
    if not sys.stdout.isatty():
        raise typer.TyperException("this draws on a terminal: `roomcast inspect --json` prints")
    environ = place.environ()
    watch = Watch(place, environ)
    if not yes:
        ask(watch.listing, every)
    watch.look()  # what is wrong with the stage is said before the screen is taken
    from roomcast_dev.cli.top_screen import TopScreen  # a quarter of a second to import

    with place.service() as service:
        TopScreen(watch.look, service.disconnect_user, every).run()
