"""The stand-in in a process of its own: says where it is, then takes commands, one JSON a line."""

from __future__ import annotations

import json
import sys

from roomcast_dev.local.project import project_in
from roomcast_dev.testing import run_stack
from tests.support.packages import ROOT


def main() -> None:
    with run_stack(project_in(ROOT)) as stack:
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
