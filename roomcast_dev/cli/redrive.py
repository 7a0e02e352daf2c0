"""`roomcast redrive`: retry what is on the fan-out queue's dead-letter queue."""

import typer

from roomcast_dev.cli import target
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.cli.target import Place


@spread
def redrive(
    place: Place,
    as_json: Json = False,
) -> None:
    """Retry the sends on the dead-letter queue.

    Fix the cause first: this moves them back to the fan-out queue. Messages that are not valid jobs stay on
    the dead-letter queue, and the log says why.

    \b
    Example:
      roomcast redrive --stage prod
    """
    from roomcast.sending.job_queue import JobQueue

    environ = place.environ()
    url = environ.get("WEBSOCKET_FANOUT_QUEUE_URL")
    if not url:
        raise typer.TyperException("this stage has no fan-out queue")
    redriven = JobQueue(url).redrive(target.rooms(environ))
    if as_json:
        print_json({"moved": redriven.moved, "bad": redriven.bad})
    else:
        print(f"moved {redriven.moved}  bad {redriven.bad}")
    if redriven.bad:
        raise typer.TyperException(
            f"{redriven.bad} messages are not valid jobs; they stay on the dead-letter queue"
        )
