"""`roomcast contract`: what an application declares, for others: AsyncAPI and TypeScript."""

from pathlib import Path
from typing import Annotated

import typer

from roomcast.app import load


def contract(
    application: Annotated[
        Path, typer.Argument(metavar="APPLICATION", help="The application's file or folder.")
    ] = Path("lambdas/app.py"),
    asyncapi: Annotated[Path | None, typer.Option(help="Write the AsyncAPI document here.")] = None,
    types: Annotated[Path | None, typer.Option(help="Write the TypeScript types here.")] = None,
    title: Annotated[str, typer.Option(help="The title of the AsyncAPI document.")] = "Realtime backend",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is not up to date.")
    ] = False,
) -> None:
    """Write actions and events as AsyncAPI and TypeScript.

    They come from the declarations of an application. Without --asyncapi and --types the types are printed.

    \b
    Example:
      roomcast contract my_app.py --types web/src/contract.ts --asyncapi docs/asyncapi.yaml
      roomcast contract my_app.py --types web/src/contract.ts --check
    """
    # Imported here, because no other command needs PyYAML.
    from roomcast_dev import contract as documents

    app = load(application)
    texts = {asyncapi: documents.asyncapi(app, title), types: documents.typescript(app)}
    wanted = {path: text for path, text in texts.items() if path is not None}
    if not wanted:
        print(texts[types], end="")
    for path, text in wanted.items():
        old = path.read_text(encoding="utf-8") if path.is_file() else None
        if old == text:
            print(f"{path}: already right")
        elif check:
            raise typer.TyperException(f"{path} is not what {application} declares: run this without --check")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path}: written")
