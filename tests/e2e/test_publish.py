"""The fan-out queue is a public API: backends in other languages reach browsers through it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from roomcast_dev.testing import WebSocketStack

ROOT = Path(__file__).parent.parent.parent


def test_the_node_example_reaches_a_browser(websocket_stack: WebSocketStack) -> None:
    anna, ben = websocket_stack.connect("anna"), websocket_stack.connect("ben")
    done = subprocess.run(
        ["node", "docs/examples/publish.mjs", "anna", "notice", '{"text":"Grüße"}'],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "NODE_NO_WARNINGS": "1", **websocket_stack.environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    envelope = anna.wait_for("notice")
    assert envelope["data"] == {"text": "Grüße"}
    assert envelope["id"] == done.stdout.strip()
    ben.expect_silence()


def test_a_large_room_is_reached_over_the_queue(websocket_stack: WebSocketStack) -> None:
    """201 members that are gone, and one browser: more than a send posts by itself."""
    browser = websocket_stack.connect("anna", role="admin")
    browser.send("dashboard:join")
    browser.wait_for("dashboard:joined")
    table = websocket_stack.environment["WEBSOCKET_ROOMS_TABLE"]
    dynamodb = websocket_stack.client("dynamodb")
    [connection_id] = websocket_stack.connection_ids()
    rows = [row for row in websocket_stack.rows(table) if row["room"]["S"] == "dashboard_admin"]
    [member] = [row for row in rows if connection_id in row["member"]["S"]]
    requests = [
        {
            "PutRequest": {
                "Item": member
                | {
                    "member": {"S": f"connection#gone-{number:03}="},
                    "connectedAt": {"S": "2026-01-01T00:00:00.000Z"},
                }
            }
        }
        for number in range(201)
    ]
    for start in range(0, len(requests), 25):
        dynamodb.batch_write_item(RequestItems={table: requests[start : start + 25]})
    report = websocket_stack.service.send_to_room("dashboard_admin", "dashboard:update", {"n": 1})
    assert (report.queued, report.sent) == (1, 0)
    envelope = browser.wait_for("dashboard:update", timeout=20)
    assert (envelope["data"], envelope["id"]) == ({"n": 1}, report.id)
    # The others are gone, and pruned by the worker.
    websocket_stack.eventually(lambda: "gone-" not in json.dumps(websocket_stack.rows(table)), 20)
    assert member in websocket_stack.rows(table)
