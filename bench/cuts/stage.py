"""The stand-in in a process of its own: says where it is, then takes commands, one JSON a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from roomcast_dev.local.stack import Project
from roomcast_dev.testing import run_stack
from tests.support.packages import ROOT


def main() -> None:
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    directory, cache = Path(__file__).with_name("room"), ROOT / "build" / "local"
    with run_stack(Project(directory, context={**context, "stage": "local"}, cache=cache)) as stack:
        where = {"port": stack.stack.port, "environment": dict(stack.environment)}
        print(json.dumps(where), flush=True)
        for line in sys.stdin:
            command = json.loads(line)
            if "refuse" in command:
                stack.faults.refuse_connects = command["refuse"]
            if "withhold" in command:
                stack.faults.withhold_disconnect = command["withhold"]
            if command.get("drop"):
                for connection_id in stack.connection_ids():
                    stack.drop(connection_id)
            print("done", flush=True)


if __name__ == "__main__":
    main()
