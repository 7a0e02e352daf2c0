"""The sample envelopes, which the browser client's tests run too: so the two ends cannot drift apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from roomcast import envelope
from roomcast.errors import ActionError

SAMPLES: dict[str, Any] = json.loads((Path(__file__).parent.parent / "envelopes.json").read_text())
NOW = 1_737_109_800.0  # 2025-01-17T10:30:00Z


def test_the_limit_is_the_clients() -> None:
    assert SAMPLES["maxBytes"] == envelope.MAX_ENVELOPE_BYTES


@pytest.mark.parametrize("sample", SAMPLES["actions"], ids=lambda sample: sample["about"])
def test_what_the_client_sends_is_what_is_parsed(sample: dict[str, Any]) -> None:
    assert envelope.parse(sample["text"]) == envelope.Action(sample["action"], sample["fields"], "1")


@pytest.mark.parametrize("sample", SAMPLES["refused"], ids=lambda sample: sample["text"])
def test_what_is_no_action_has_its_code(sample: dict[str, Any]) -> None:
    with pytest.raises(ActionError) as caught:
        envelope.parse(sample["text"])
    assert caught.value.code == sample["code"]


@pytest.mark.parametrize("sample", SAMPLES["events"], ids=lambda sample: sample["about"])
def test_what_is_built_is_what_the_client_hears(sample: dict[str, Any]) -> None:
    beside = {"id": sample.get("id"), "room": sample.get("room"), "reply_to": sample.get("replyTo")}
    beside["connection"] = sample.get("connection")
    assert envelope.build(sample["event"], sample["data"], now=NOW, **beside) == sample["text"]
