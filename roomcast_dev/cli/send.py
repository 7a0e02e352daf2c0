"""`roomcast send`, `grant` and `revoke`: what a backend does through the library, by hand."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roomcast_dev.cli import target

if TYPE_CHECKING:
    from roomcast import SendReport

app = typer.Typer(help="Send an event to a user, a room or everybody.", no_args_is_help=True)

User = Annotated[str, typer.Argument(metavar="USER", help="A user id.")]
Room = Annotated[
    str, typer.Argument(metavar="ROOM", help="A room's name, e.g. dashboard_admin or chat_room_42.")
]
Event = Annotated[str, typer.Argument(metavar="EVENT", help="The event's name, e.g. dashboard:update.")]
Data = Annotated[str, typer.Argument(metavar="JSON", help="The event's data as JSON; - reads it from stdin.")]


@app.command("user")
def user(
    user_id: User,
    event: Event,
    data: Data,
    stage: target.StageOption = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    env_file: target.EnvFileOption = target.ENV_FILE,
) -> None:
    """Send an event to every connection of a user.

    \b
    Example:
      roomcast send user u1 notice '{"text":"Your order has shipped"}'
    """
    value = _parse(data)
    with target.service(target.find(stage, stack, outputs, env_file)) as service:
        _show(service.send_to_user(user_id, event, value))


@app.command("room")
def room(
    name: Room,
    event: Event,
    data: Data,
    stage: target.StageOption = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    env_file: target.EnvFileOption = target.ENV_FILE,
) -> None:
    """Send an event to every member of a room.

    \b
    Example:
      roomcast send room dashboard_admin dashboard:update '{"orderId":"123"}'
    """
    value = _parse(data)
    with target.service(target.find(stage, stack, outputs, env_file)) as service:
        _show(service.send_to_room(name, event, value))


@app.command("all")
def everybody(
    event: Event,
    data: Data,
    stage: target.StageOption = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    env_file: target.EnvFileOption = target.ENV_FILE,
) -> None:
    """Send an event to every connection of the stage.

    \b
    Example:
      roomcast send all notice '{"text":"Back in five minutes"}' --stage prod
    """
    value = _parse(data)
    with target.service(target.find(stage, stack, outputs, env_file)) as service:
        _show(service.broadcast(event, value))


def grant(
    name: Room,
    user_id: User,
    stage: target.StageOption = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    env_file: target.EnvFileOption = target.ENV_FILE,
) -> None:
    """Give a user the right to join a chat room.

    \b
    Example:
      roomcast grant chat_room_42 u1
    """
    with target.service(target.find(stage, stack, outputs, env_file)) as service:
        service.grant_room(name, user_id)
    print(f"{user_id} may join {name}")


def revoke(
    name: Room,
    user_id: User,
    stage: target.StageOption = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    env_file: target.EnvFileOption = target.ENV_FILE,
) -> None:
    """Take a user's right to join a chat room back, and end the user's memberships in it.

    \b
    Example:
      roomcast revoke chat_room_42 u1
    """
    with target.service(target.find(stage, stack, outputs, env_file)) as service:
        service.revoke_room(name, user_id)
    print(f"{user_id} may no longer join {name}")


def _parse(text: str) -> Any:
    source = "stdin" if text == "-" else "JSON"
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except RecursionError:
        raise typer.TyperException(f"{source} is nested too deeply") from None
    except ValueError as error:
        raise typer.TyperException(
            f'{source} is not JSON: {error} (quote it: \'{{"key":"value"}}\')'
        ) from None


def _show(report: "SendReport") -> None:
    """Print one line; the exit code is 1 where a receiver is there and was not reached."""
    counts = {name: int(getattr(report, name)) for name in ("sent", "gone", "failed", "unknown", "queued")}
    print("  ".join(f"{name} {count}" for name, count in counts.items()), f" id {report.id}")
    if report.failed:
        raise typer.TyperException(f"{report.failed} of the receivers failed; sending again may reach them")
