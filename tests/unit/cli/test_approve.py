"""`roomcast approve`: what keeps data is deployed after a question only."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Roomcast

PROD = "landinghub-websocket-prod"


def write_assembly(name: str = PROD, **properties: Any) -> Path:
    path = Path("assembly")
    path.mkdir()
    stack = {"type": "aws:cloudformation:stack", "properties": properties}
    assets = {"type": "cdk:asset-manifest", "properties": {}}
    (path / "manifest.json").write_text(json.dumps({"artifacts": {name: stack, f"{name}.assets": assets}}))
    return path


def test_a_stage_that_keeps_nothing_is_not_asked_for(roomcast: Roomcast) -> None:
    assembly = write_assembly("landinghub-websocket-dev")
    assert roomcast("approve", "--stage", "dev", "--assembly", str(assembly)) == (0, "", "")


def test_a_stage_that_keeps_data_is_asked_for_whatever_its_name(
    roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aws.md 9."""
    assembly = str(write_assembly("landinghub-websocket-live", terminationProtection=True))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in ((True, 0), (False, 1)):
        monkeypatch.setattr("typer.confirm", lambda question, given=answer: given)
        assert roomcast("approve", "--stage", "live", "--assembly", assembly).code == code


def test_a_pipeline_is_told_how_to_say_yes(roomcast: Roomcast) -> None:
    """aws.md 9."""
    assembly = str(write_assembly(terminationProtection=True))
    answer = roomcast("approve", "--stage", "prod", "--assembly", assembly)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "add --yes (make: YES=1)" in answer.err
    assert roomcast("approve", "--stage", "prod", "--assembly", assembly, "--yes").code == 0


def test_an_assembly_of_another_stage_is_refused(roomcast: Roomcast) -> None:
    assembly = str(write_assembly("landinghub-websocket-dev"))
    answer = roomcast("approve", "--stage", "prod", "--assembly", assembly, "--yes")
    assert f"has the stack landinghub-websocket-dev, not {PROD}" in answer.err


@pytest.mark.parametrize("text", ["", "{}", '{"artifacts": {}}'])
def test_what_is_not_an_assembly_is_one_line(roomcast: Roomcast, text: str) -> None:
    Path("here").mkdir()
    if text:
        Path("here/manifest.json").write_text(text)
    answer = roomcast("approve", "--stage", "prod", "--assembly", "here")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
