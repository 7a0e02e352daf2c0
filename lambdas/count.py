"""Every quarter of an hour: how many connections are open, which no metric of AWS reports.

The clients hear of it too: the larger the stage, the wider they spread their reconnects.
"""

from typing import Any

from roomcast import metrics
from roomcast.functions.cold_start import wiring


def handler(event: dict[str, Any], context: object) -> None:  # noqa: ARG001
    """Count the connections that are neither expired nor closed, by Scans."""
    count = wiring().store.receivers.count()
    wiring().store.size.put(count)
    metrics.emit({"OpenConnections": count})
