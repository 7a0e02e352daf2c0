"""One worker of the fan-out queue, as Lambda runs it with batches of one: a line of JSON for each job."""

import json
import os
import sys
import time
from typing import Any

import botocore.session

from lambdas.fanout import handler
from roomcast.functions.cold_start import wiring

sqs: Any = botocore.session.get_session().create_client("sqs")
url = os.environ["WEBSOCKET_FANOUT_QUEUE_URL"]
_ = wiring().worker
print("ready", flush=True)
while True:
    asked = time.monotonic()
    answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MessageSystemAttributeNames=["All"])
    for message in answer.get("Messages", []):
        received = time.monotonic()
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
        }
        undone = handler({"Records": [record]}, None)["batchItemFailures"]
        done = time.monotonic()
        if not undone:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        line = {
            "receivers": len(json.loads(message["Body"]).get("receivers", ())),
            "asked": asked,
            "received": received,
            "done": done,
            "deleted": time.monotonic(),
            "undone": len(undone),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
