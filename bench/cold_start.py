"""The CPU of a cold start: each function's import and first event, compared with the same handler on boto3.

As on Lambda: boto3 and botocore come compiled, what is in the function's folder does not and cannot be
(the folder is read-only), and there is nothing else to import. The peers are written as tutorials write
them: `boto3.resource` and `boto3.client` made at import, the answer of `$default` posted through the
management API; `default_returned_ratio` compares with one that returns its answer, as ours does;
`application_ratio` is an action of the application over a `ping`, which imports none of its code.
MiniStack and a fake management API answer from the other core.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.peers.common import PEERS, ROOT, finish, options, pin, run, venv
from roomcast_dev.local.ministack.process import MiniStack
from tests.builders import APP, SECRET, connect_event, create_tables, disconnect_event, message_event, token
from tests.fakes.management_api import FakeManagementApi

BOTO3 = "boto3==1.43.106"
FUNCTIONS = ("connect", "disconnect", "default")
TARGETS = {f"{function}_ratio": ("<=", 0.35) for function in FUNCTIONS} | {"application_ratio": ("<=", 1.05)}
PARTS = {
    "import botocore.session": "import botocore.session",
    "... a session": "import botocore.session; botocore.session.get_session()",
    "... a DynamoDB client": (
        "import botocore.session; botocore.session.get_session().create_client('dynamodb')"
    ),
    "import boto3": "import boto3",
}


def stage(folder: Path, sources: Path, *packages: Path) -> Path:
    """A function's folder: handlers at its root, packages next to them, no bytecode."""
    folder.mkdir()
    for source in sources.glob("*.py"):
        if source.name != "__init__.py":
            shutil.copy(source, folder)
    for package in packages:
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def cold(python: Path, folder: Path, function: str, event: Path, environ: dict[str, str]) -> dict[str, float]:
    """One cold start."""
    os.chdir(folder)
    try:
        answer: dict[str, float] = run([python, PEERS / "cold_run.py", function, event], environ)
        return answer
    finally:
        os.chdir(ROOT)


def part(python: Path, code: str, environ: dict[str, str]) -> float:
    """CPU milliseconds of some code in a fresh process."""
    timed = f"import time; began = time.process_time(); {code}; print((time.process_time() - began) * 1e3)"
    return float(run([python, "-c", timed], environ))


async def main() -> None:
    """Measure, show, write."""
    chosen = options(__doc__.splitlines()[0])
    python = venv("boto3", BOTO3)
    jwt = importlib.util.find_spec("jwt")
    assert jwt is not None
    assert jwt.origin is not None
    rounds = 5 if chosen.quick else 15
    ministack = MiniStack()
    pin(1)
    await ministack.start()
    taken: dict[tuple[str, str], list[dict[str, float]]] = {}
    parts: dict[str, list[float]] = {}
    try:
        with tempfile.TemporaryDirectory() as name, FakeManagementApi() as api:
            folder = Path(name)
            ours = stage(folder / "ours", ROOT / "lambdas", ROOT / "roomcast", Path(jwt.origin).parent)
            usual = stage(folder / "usual", PEERS / "usual", Path(jwt.origin).parent)
            environ = {
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": "",
                "AWS_ENDPOINT_URL": ministack.url,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "WEBSOCKET_CONNECTIONS_TABLE": "connections",
                "WEBSOCKET_ROOMS_TABLE": "rooms",
                "WEBSOCKET_ROOMS": APP.rooms.dumps(),
                "WEBSOCKET_HISTORY_TABLE": "history",
                "WEBSOCKET_JWT_SECRET_NAME": "jwt",
                "WEBSOCKET_API_ENDPOINT": api.endpoint.replace("ws://", "http://"),
            }
            events: dict[str, Any] = {
                "connect": connect_event("c1=", token=token()),
                "disconnect": disconnect_event("c1="),
                "default": message_event("c2=", action="ping"),
                "application": message_event("c2=", action="dashboard:refresh"),
            }
            for function, event in events.items():
                (folder / f"{function}.json").write_text(json.dumps(event))
            await asyncio.to_thread(_fill, ministack)
            for _ in range(rounds):
                for function in FUNCTIONS:
                    runs = [("ours", ours, function), ("usual", usual, function)]
                    if function == "default":
                        runs.append(("usual, returned", usual, "default_returned"))
                        runs.append(("ours, the application's", ours, function))
                    for kind, code, module in runs:
                        asked = "application" if "application" in kind else function
                        event_file = folder / f"{asked}.json"
                        # `$connect` and `$disconnect` get the application only where it has hooks for them.
                        code_of = {"WEBSOCKET_APPLICATION": "app"} if function == "default" else {}
                        figures = await asyncio.to_thread(
                            cold, python, code, module, event_file, environ | code_of
                        )
                        taken.setdefault((function, kind), []).append(figures)
                for label, code_text in PARTS.items():
                    milliseconds = await asyncio.to_thread(part, python, code_text, environ)
                    parts.setdefault(label, []).append(milliseconds)
    finally:
        await ministack.stop()
    _show(taken, parts)
    figures: dict[str, float] = {}
    for function in FUNCTIONS:
        mine, theirs = (_median(taken[function, kind], "cpu_ms") for kind in ("ours", "usual"))
        figures[f"{function}_ratio"] = mine / theirs
        figures[f"{function}_cpu_ms"] = mine
        mine, theirs = (_median(taken[function, kind], "wall_ms") for kind in ("ours", "usual"))
        figures[f"{function}_wall_ratio"] = mine / theirs
    with_application = _median(taken["default", "ours, the application's"], "cpu_ms")
    figures["application_ratio"] = with_application / figures["default_cpu_ms"]
    returned = _median(taken["default", "usual, returned"], "cpu_ms")
    figures["default_returned_ratio"] = figures["default_cpu_ms"] / returned
    finish(figures, TARGETS, chosen.json)


def _fill(ministack: MiniStack) -> None:
    dynamodb = ministack.client("dynamodb")
    create_tables(dynamodb)
    ministack.client("secretsmanager").create_secret(Name="jwt", SecretString=SECRET)
    texts = ("connectionId", "c2="), ("userId", "u2"), ("userRole", "user"), ("connectedAt", "2026-01-01")
    numbers = {key: {"N": "9999999999"} for key in ("ttl", "expiresAt")}
    dynamodb.put_item(TableName="connections", Item={key: {"S": value} for key, value in texts} | numbers)


def _median(figures: list[dict[str, float]], key: str) -> float:
    return statistics.median(figure[key] for figure in figures)


def _show(taken: dict[tuple[str, str], list[dict[str, float]]], parts: dict[str, list[float]]) -> None:
    print("\nmilliseconds                    import CPU   event CPU   CPU   wall   modules")
    for (function, kind), figures in taken.items():
        keys = ("import_cpu_ms", "event_cpu_ms", "cpu_ms", "wall_ms", "modules")
        values = [_median(figures, key) for key in keys]
        print(f"  {function:11} {kind:16} {values[0]:11.0f} {values[1]:11.0f} {values[2]:5.0f} ", end="")
        print(f"{values[3]:6.0f} {values[4]:9.0f}")
    print("\nwhere it goes, each in a fresh process, CPU milliseconds")
    for label, milliseconds in parts.items():
        print(f"  {label:27} {statistics.median(milliseconds):11.0f}")


if __name__ == "__main__":
    asyncio.run(main())
