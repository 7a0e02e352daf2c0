"""EventBridge in this process, at the level of botocore's client: keeps what is put on it."""

import json
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError


def refusal(code: str) -> ClientError:
    """What EventBridge refuses a whole call with."""
    error: Any = {"Error": {"Code": code, "Message": "no"}}
    return ClientError(error, "PutEvents")


THROTTLED, DENIED = refusal("ThrottlingException"), refusal("AccessDeniedException")
SILENT = ReadTimeoutError(endpoint_url="https://events.test")


class FakeEventBus:
    """One client.

    Attributes:
        entries: what it has taken.
        calls: how many there were.
        script: for each of the next calls an error to raise, or the error codes of single entries by index.
        lost_answers: how many of the next calls are done and have no answer.
        before: called at each call.
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.calls = 0
        self.script: list[Exception | dict[int, str]] = []
        self.lost_answers = 0
        self.before: Callable[[], None] = lambda: None

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.before()
        self.calls += 1
        assert 1 <= len(Entries) <= 10
        turn = self.script.pop(0) if self.script else {}
        if isinstance(turn, Exception):
            raise turn
        self.entries += [entry for index, entry in enumerate(Entries) if index not in turn]
        if self.lost_answers:
            self.lost_answers -= 1
            raise SILENT
        results = [
            {"ErrorCode": turn[index], "ErrorMessage": "not now"} if index in turn else {"EventId": "e"}
            for index in range(len(Entries))
        ]
        return {"FailedEntryCount": len(turn), "Entries": results}

    def close(self) -> None:
        """There is nothing to close."""

    def seen(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and detail of each event, in the order in which they were put."""
        return [(entry["DetailType"], json.loads(entry["Detail"])) for entry in self.entries]
