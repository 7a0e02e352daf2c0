"""Every quarter of an hour: how many connections are open, which no metric of AWS reports."""

from typing import Any

from roomcast import metrics
from roomcast.functions.cold_start import wiring


def handler(event: dict[str, Any], context: object) -> None:  # noqa: ARG001
    """Count the connections that are neither expired nor closed, by Scans."""
    metrics.emit({"OpenConnections": wiring().store.receivers.count()})
