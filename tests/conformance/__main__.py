"""`make conform STAGE=dev`: ask API Gateway what the stand-in is asked, and print each difference."""

import secrets
import sys
import time
from pathlib import Path
from typing import Annotated

import botocore.session
import typer

from roomcast import Settings, WebSocketService
from roomcast.store.dynamodb import Tables
from roomcast.store.receivers import user_connection_ids
from roomcast_dev.cli.target import LOCAL, Place
from tests.conformance.rows import ROWS, compare
from tests.conformance.target import SECONDS, Target


def target_of(place: Place) -> Target:
    """A stage as a target: it lets in by tickets, and its connections table has the ids."""
    environ = place.environ()
    url = environ["WEBSOCKET_API_ENDPOINT"]
    tables = Tables.from_settings(Settings.from_env(environ))

    service = WebSocketService.from_env(environ)

    def admit() -> str:
        # A user of its own for each connection, so that the index names the one.
        user = f"roomcast-conform-{secrets.token_hex(6)}"
        return f"ticket={service.create_ticket(user)}&user={user}"

    def connection_id(query: str) -> str:
        user = query.rpartition("=")[2]
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for found in user_connection_ids(tables, user):
                return found
            time.sleep(0.05)
        raise TimeoutError(f"{user} is connected, and not in the index of the connections table")

    session = botocore.session.get_session()
    region = url.split(".execute-api.")[-1].split(".")[0] if ".execute-api." in url else "us-east-1"
    callback_url = url.replace("wss://", "https://", 1).replace("ws://", "http://", 1)
    return Target(url, callback_url, admit, connection_id, session, region, on_close=service.close)


def main(
    stage: Annotated[str | None, typer.Option(help="A deployed stage. Default: the local stage.")] = None,
    outputs: Annotated[Path | None, typer.Option(help="The outputs of `cdk deploy`.")] = None,
    env_file: Annotated[Path, typer.Option(help="The file that `roomcast dev` writes.")] = Path(".env.local"),
) -> None:
    """Ask every row of a running stage; the exit code is 1 where an answer differs from the stand-in's."""
    place = Place(stage=None if stage == LOCAL else stage, outputs=outputs, env_file=env_file)
    differ = compare(ROWS, target_of(place), lambda line: print(line, flush=True))  # noqa: T201
    print(f"{len(ROWS)} questions, {differ} answers differ from the stand-in's")  # noqa: T201
    sys.exit(bool(differ))


if __name__ == "__main__":
    typer.run(main)
