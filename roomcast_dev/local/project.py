"""Which CDK project a directory holds, and how the local run treats it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from roomcast_dev.local.errors import SynthesisError
from roomcast_dev.local.stack import Project

STAGE = "local"


def project_in(directory: Path) -> Project:
    """Return the project of a directory: Roomcast's own app, a copy of it, or any other CDK app.

    If `cdk.json` has a stage `local`, that stage is synthesized. If there are `lambdas/` and `stacks/`, as in
    Roomcast's own app, the functions run from their sources, and a saved file takes effect on the next
    event. The functions of any other app run as they were synthesized.

    Args:
        directory: where `cdk.json` is.

    Raises:
        SynthesisError: there is no `cdk.json`, or it is not JSON.
    """
    context = {"stage": STAGE} if STAGE in _stages(directory) else {}
    if not ((directory / "lambdas").is_dir() and (directory / "stacks").is_dir()):
        return Project(directory, context=context)
    sources = [
        directory / name
        for name in ("app.py", "cdk.json", "lambdas/app.py", "stacks", "roomcast_cdk", "requirements.txt")
    ]
    watched = [folder for folder in (directory / "lambdas", directory / "roomcast") if folder.is_dir()]
    return Project(
        directory,
        context=context,
        sources=sources,
        source_path=[directory / "lambdas", directory],
        watched=watched,
    )


def _stages(directory: Path) -> Mapping[str, object]:
    path = directory / "cdk.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SynthesisError(f"no cdk.json in {directory}: run this where your CDK app is") from None
    except ValueError as error:
        raise SynthesisError(f"{path} is not JSON: {error}") from None
    context = config.get("context") if isinstance(config, dict) else None
    stages = context.get("stages") if isinstance(context, dict) else None
    return stages if isinstance(stages, dict) else {}
