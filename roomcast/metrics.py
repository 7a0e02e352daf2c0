"""Metrics: one line of the log in CloudWatch's embedded metric format. It costs no call, and blocks nothing.

Written only where `WEBSOCKET_METRICS` names the stack that they are of, which is their only dimension: by the
deployed functions of a stage that is watched. A laptop's log and a backend's output stay as they are.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType

NAMESPACE = "Roomcast"
UNITS: Mapping[str, str] = MappingProxyType(
    {
        "Connected": "Count",
        "Disconnected": "Count",
        "RefusedCredentials": "Count",
        "RefusedOrigin": "Count",
        "RefusedLimit": "Count",
        "KeysUnavailable": "Count",
        "Sent": "Count",
        "Gone": "Count",
        "Failed": "Count",
        "Unknown": "Count",
        "PublishToPost": "Milliseconds",
        "Published": "Count",
        "Signals": "Count",
        "RefusedPublish": "Count",
        "Appends": "Count",
        "Conflicts": "Count",
        "Recovered": "Count",
        "Gaps": "Count",
        "ReplayBytes": "Bytes",
        "ColdStarts": "Count",
        "OpenConnections": "Count",
        "EventsLost": "Count",
    }
)
"""Every metric there is. `PublishToPost` is the time from a send to the last post of one of its jobs.
`Appends` are messages that the functions have stored, and `Conflicts` numbers that another sender was quicker
to take. `Recovered` and `Gaps` count the rooms that clients have come back to with a position.
`EventsLost` are server events that did not get to their bus."""


def emit(values: Mapping[str, float]) -> None:
    """Write values of some metrics, where metrics are wanted.

    Args:
        values: by the names in `UNITS`.
    """
    stack = os.environ.get("WEBSOCKET_METRICS")
    if not stack:
        return
    definition = {
        "Namespace": NAMESPACE,
        "Dimensions": [["Stack"]],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
    }
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [definition]}
    sys.stdout.write(json.dumps({"_aws": about, "Stack": stack, **values}, separators=(",", ":")) + "\n")
    sys.stdout.flush()
