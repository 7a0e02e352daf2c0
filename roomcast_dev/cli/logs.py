"""`roomcast logs`: the log lines of a deployed stage's functions."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import boto3
import typer

from roomcast.plain_text import plain
from roomcast_dev.cli import target
from roomcast_dev.cli.output import Json, print_json

POLL_SECONDS = 2.0
LATE_SECONDS = 15
"""How far back each look goes: CloudWatch shows lines some seconds after they were written."""


def logs(
    stage: Annotated[str | None, typer.Option(help="The deployed stage, for example prod.")] = None,
    stack: target.StackOption = None,
    minutes: Annotated[int, typer.Option(min=1, help="Minutes to look back.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new lines until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show the log lines of a deployed stage's functions.

    \b
    Example:
      roomcast logs --stage prod --follow
    """
    groups = target.resources(target.stack_name(stage, stack)).get("AWS::Logs::LogGroup", [])
    if not groups:
        raise typer.TyperException("this stage has no logs")
    client: Any = boto3.client("logs")
    start = int((time.time() - 60 * minutes) * 1000)
    seen: dict[str, int] = {}  # ids of the lines shown, with their time
    while True:
        for at, group, message in _new(client, groups, start, seen):
            if as_json:
                print_json({"at": at.isoformat(), "logGroup": group, "message": message.rstrip()})
            else:
                print(f"{at:%H:%M:%S} {_readable(message)}")
        if not follow:
            return
        time.sleep(POLL_SECONDS)
        start = max(start, int((time.time() - LATE_SECONDS) * 1000))
        for id_ in [id_ for id_, at in seen.items() if at < start]:
            del seen[id_]


def _new(
    client: Any, groups: list[str], start: int, seen: dict[str, int]
) -> Iterator[tuple[datetime, str, str]]:
    lines: list[tuple[int, str, str]] = []
    for group in groups:
        pages = client.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=start)
        for event in (event for page in pages for event in page["events"]):
            if event["eventId"] not in seen:
                seen[event["eventId"]] = event["timestamp"]
                lines.append((event["timestamp"], group, event["message"]))
    for at, group, message in sorted(lines, key=lambda line: line[0]):
        yield datetime.fromtimestamp(at / 1000, UTC), group, message


def _readable(message: str) -> str:
    """A line as a person reads it: the functions write theirs as JSON.

    What strangers may have had a part in can neither steer the terminal nor look like another entry.
    """
    try:
        parts = json.loads(message)
        return plain(f"{parts['level']:<7} {parts['message']}")
    except (ValueError, KeyError, TypeError):
        # A traceback has lines of its own; those after the first are set in.
        return "\n         ".join(map(plain, message.rstrip().split("\n")))
