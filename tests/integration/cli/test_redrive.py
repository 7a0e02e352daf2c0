"""`roomcast redrive` on a queue with a dead-letter queue."""

import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.unit.cli.conftest import Roomcast

JOB = '{"version": 1, "to": {"all": true}, "event": "e", "data": {}, "id": "1"}'


@pytest.mark.usefixtures("local_stage")
def test_a_stage_without_a_queue_says_so(roomcast: Roomcast) -> None:
    answer = roomcast("redrive")
    assert (answer.code, answer.err) == (1, "roomcast: this stage has no fan-out queue\n")


def test_jobs_go_back_to_the_queue_and_the_rest_is_counted(
    aws: botocore.session.Session, roomcast: Roomcast, local_stage: Path
) -> None:
    client: Any = aws.create_client("sqs")
    dead = client.create_queue(QueueName="dead-letters")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
    url = client.create_queue(QueueName="fan-out", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    with local_stage.open("a") as file:
        file.write(f"WEBSOCKET_FANOUT_QUEUE_URL={url}\n")
    client.send_message(QueueUrl=dead, MessageBody=JOB)
    answer = roomcast("redrive")
    assert (answer.code, answer.out, answer.err) == (0, "moved 1  bad 0\n", "")
    [message] = client.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"]) == json.loads(JOB)

    client.send_message(QueueUrl=dead, MessageBody="no job")
    answer = roomcast("redrive")
    assert (answer.code, answer.out) == (1, "moved 0  bad 1\n")
    assert "1 messages are not valid jobs; they stay on the dead-letter queue" in answer.err
    client.delete_queue(QueueUrl=url)
    client.delete_queue(QueueUrl=dead)
