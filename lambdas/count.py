"""Every quarter of an hour: how many connections are open, which no metric of AWS tells."""

from typing import Any

from roomcast import metrics
from roomcast.wiring import parts


def handler(event: dict[str, Any], context: object) -> None:  # noqa: ARG001
    """Count the connections that are neither expired nor closed, by one Scan."""
    metrics.emit({"OpenConnections": sum(1 for _ in parts().store.all_receivers())})
