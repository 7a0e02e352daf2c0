"""docs/testing.md: its tests, run as they are printed."""

import re
from pathlib import Path

import pytest

from roomcast_dev.testing import WebSocketStack

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
NAMESPACE: dict[str, object] = {}
for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
    exec(block, NAMESPACE)
TESTS = [name for name in NAMESPACE if name.startswith("test_")]


def test_the_page_has_its_tests() -> None:
    assert len(TESTS) == 3


@pytest.mark.parametrize("name", TESTS)
def test_a_test_of_the_page_passes(name: str, websocket_stack: WebSocketStack) -> None:
    test = NAMESPACE[name]
    assert callable(test)
    test(websocket_stack)
