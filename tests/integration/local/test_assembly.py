"""Synthesis: the CDK app runs when its sources changed, and only then."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from roomcast_dev.local.assembly import synthesize
from roomcast_dev.local.console import Console
from roomcast_dev.local.errors import NodeMissingError, SynthesisError, TemplateError
from roomcast_dev.local.stack import LocalRun, Project

APP = """
import json, os, pathlib
out = pathlib.Path(os.environ["CDK_OUTDIR"])
context = json.loads(os.environ["CDK_CONTEXT_JSON"])
(out / "manifest.json").write_text(json.dumps({"artifacts": {}, "context": context}))
with open("runs", "a") as runs:
    runs.write("x")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "cdk.json").write_text(
        json.dumps({"app": "python3 app.py", "context": {"kept": 1, "stage": "?"}})
    )
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


async def run(app: Path, stage: str = "local") -> tuple[Path, str]:
    """Synthesize; the assembly and what was shown."""
    output = io.StringIO()
    assembly = await synthesize(
        app, context={"stage": stage}, sources=[], cache=app / "build" / "local", console=Console(output)
    )
    return assembly, output.getvalue()


async def test_the_app_runs_as_the_cdk_command_line_runs_it(app: Path) -> None:
    assembly, shown = await run(app)
    context = json.loads((assembly / "manifest.json").read_text())["context"]
    assert context == {"kept": 1, "stage": "local"}
    assert "Synthesizing" in shown


async def test_it_does_not_run_again_for_the_same_sources(app: Path) -> None:
    first, _ = await run(app)
    assert await run(app) == (first, "")
    assert (app / "runs").read_text() == "x"


async def test_a_changed_source_or_context_runs_it_again_and_replaces_the_old(app: Path) -> None:
    await run(app)
    (app / "app.py").write_text(APP + "# changed\n")
    await run(app)
    last, _ = await run(app, stage="other")
    assert (app / "runs").read_text() == "xxx"
    assert list((app / "build" / "local").iterdir()) == [last]


async def test_an_app_that_fails_is_shown_and_leaves_nothing(app: Path) -> None:
    (app / "app.py").write_text("raise SystemExit('stage: no such thing')")
    with pytest.raises(SynthesisError, match="stage: no such thing"):
        await run(app)
    assert list((app / "build" / "local").iterdir()) == []


async def test_without_node_a_cached_assembly_still_serves(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await run(app)
    monkeypatch.setattr("roomcast_dev.local.assembly.shutil.which", lambda _: None)
    assert await run(app) == (first, "")
    (app / "app.py").write_text(APP + "# changed\n")
    with pytest.raises(NodeMissingError, match=r"Node\.js not found"):
        await run(app)


async def test_a_project_may_keep_its_assemblies_elsewhere(app: Path, tmp_path: Path) -> None:
    """As a checkout that cannot be written needs it."""
    elsewhere = tmp_path.parent / f"{tmp_path.name}-cache"
    run_ = LocalRun(Project(app, cache=elsewhere))
    with pytest.raises(TemplateError, match="exactly one WebSocket API"):
        await run_.start()
    assert len(list(elsewhere.iterdir())) == 1
    assert not (app / "build").exists()
