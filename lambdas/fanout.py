"""The fan-out queue's worker: runs its jobs and reports those that stay on the queue."""

from typing import Any

from roomcast.functions.cold_start import wiring


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Run each job of the batch; the others are done even if one fails."""
    worker = wiring().worker
    undone = [record["messageId"] for record in event["Records"] if not worker.run(record)]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in undone]}
