"""`roomcast env`: write a deployed stage's addresses where the backend and the front end look for them."""

from pathlib import Path
from typing import Annotated

import typer

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
    missing, nothing is written.

    \b
    Example:
      roomcast env --stage prod --outputs cdk.out/prod.outputs.json --backend .env --frontend web/.env
    """
    environ = target.deployed(target.stack_name(stage, stack), outputs)
    backend = _file(backend)
    frontend = _file(frontend) if frontend else backend
    url = environ.pop(BROWSER_URL)
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


def _file(path: Path) -> Path:
    path = path / ".env" if path.is_dir() else path
    if not path.parent.is_dir():
        raise typer.TyperException(f"no directory {path.parent} for {path.name}")
    return path
