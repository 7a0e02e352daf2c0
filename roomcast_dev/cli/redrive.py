"""`roomcast redrive`: the dead letters of the fan-out queue get another chance."""

import typer

from roomcast_dev.cli import target


def redrive(
    stage: target.StageOption = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    env_file: target.EnvFileOption = target.ENV_FILE,
) -> None:
    """Move failed sends from the dead letters back to the fan-out queue, once their cause is mended.

    What is no job stays among the dead letters; the reason is in the log.

    \b
    Example:
      roomcast redrive --stage prod
    """
    from roomcast.sending.job_queue import JobQueue

    url = target.find(stage, stack, outputs, env_file).get("WEBSOCKET_FANOUT_QUEUE_URL")
    if not url:
        raise typer.TyperException("this stage has no fan-out queue")
    redriven = JobQueue(url).redrive()
    print(f"moved {redriven.moved}  bad {redriven.bad}")
    if redriven.bad:
        raise typer.TyperException(
            f"{redriven.bad} of the dead letters are no jobs; they stay where they are"
        )
