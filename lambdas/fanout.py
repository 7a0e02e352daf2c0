"""The fan-out queue's worker: runs its jobs and reports those that stay on the queue.

What it needs of the stack: the queue as event source with a batch size of 1, `ReportBatchItemFailures` and
`MaximumConcurrency`; a dead-letter queue (14 days) after 3 receives; a timeout of 120 s and so a visibility
timeout of 720 s; 1,769 MB, since a broadcast's receivers are enumerated in one run.

Environment: both tables, `WEBSOCKET_API_ENDPOINT` (the callback URL), `WEBSOCKET_FANOUT_QUEUE_URL`, and
`WEBSOCKET_FANOUT_RATE`: posts a second of one worker, so that `MaximumConcurrency` times this is the share of
the account's rate that a broadcast may take (5 x 600 is 30 % of 10,000).

Rights: consume from and send to the queue; Query and Scan of the connections table and `UserIdIndex`, Query
of the rooms table, BatchGetItem and DeleteItem of connections, BatchWriteItem of rooms;
`execute-api:ManageConnections` for POST.
"""

import logging
from typing import Any

from realtime.parts import parts

log = logging.getLogger("realtime")
log.setLevel(logging.INFO)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Run each job of the batch; the others are done even if one fails."""
    worker = parts().worker
    undone = [record["messageId"] for record in event["Records"] if not worker.run(record)]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in undone]}
