"""`roomcast env`: write a deployed stage's addresses where the backend and the front end look for them."""

import io
import re
from pathlib import Path
from typing import Annotated

import typer
from dotenv import dotenv_values

from roomcast_dev import env_file as files
from roomcast_dev.cli import target
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.outputs import BROWSER_URL, BROWSER_URLS


def env(
    stage: Annotated[str | None, typer.Option(help="The deployed stage, for example prod.")] = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    backend: Annotated[Path, typer.Option(help="The backend's file, or its directory.")] = Path(".env"),
    frontend: Annotated[
        Path | None,
        typer.Option(help="The front end's file, or its directory. Default: the backend's file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a deployed stage's addresses into .env files.

    Every other line, comment and line end stays as it is, and a second run changes nothing. If an output is
    missing, nothing is written. AWS_REGION becomes the stage's, unless the backend's file names a region.

    \b
    Example:
      roomcast env --stage prod --outputs cdk.out/prod.outputs.json --backend .env --frontend web/.env
    """
    environ = target.deployed(target.stack_name(stage, stack), outputs)
    backend = _file(backend)
    frontend = _file(frontend) if frontend else backend
    url = environ.pop(BROWSER_URL)
    environ |= _region(environ["WEBSOCKET_API_ENDPOINT"], files.read(backend))
    changes = {backend.resolve(): environ}
    changes.setdefault(frontend.resolve(), {}).update(dict.fromkeys(BROWSER_URLS, url))
    # Everything is read and edited before anything is written.
    old = {path: files.read(path) for path in changes}
    new = {path: files.set_values(old[path], values) for path, values in changes.items()}
    for path, values in changes.items():
        if new[path] != old[path]:
            files.write(path, new[path])
        if as_json:
            print_json({"file": str(path), "changed": new[path] != old[path], "keys": list(values)})
            continue
        print(f"{path}: {'already had' if new[path] == old[path] else 'wrote'} {', '.join(values)}")


def _region(endpoint: str, backend: str) -> dict[str, str]:
    """The stage's region, which a backend needs outside of AWS; one that its file names is left alone."""
    found = re.search(r"\.execute-api\.([a-z0-9-]+)\.", endpoint)
    if not found:
        return {}
    there = dotenv_values(stream=io.StringIO(backend), interpolate=False)
    named = there.get("AWS_REGION") or there.get("AWS_DEFAULT_REGION")
    if named and named != found[1]:
        typer.echo(f"the file says region {named}, and the stage is in {found[1]}", err=True)
    return {} if named and there.get("AWS_REGION") != found[1] else {"AWS_REGION": found[1]}


def _file(path: Path) -> Path:
    path = path / ".env" if path.is_dir() else path
    if not path.parent.is_dir():
        raise typer.TyperException(f"no directory {path.parent} for {path.name}")
    return path
