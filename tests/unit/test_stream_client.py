"""The model of a client does what the scenarios say: the browser client runs the same file."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.stream_client import StreamClient

SCENARIOS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "scenarios" / "streams.json").read_text()
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"].replace(" ", "-"))
def test_the_model_does_what_the_scenario_says(scenario: dict[str, Any]) -> None:
    client = StreamClient()
    for number, step in enumerate(scenario["steps"], 1):
        assert client.handle(step["in"]) == step.get("out", []), f"step {number}: {step['in']}"
    assert client.positions == scenario["positions"]
