"""What a failed deployment leaves behind, and how the next one gets past it.

CloudFormation keeps a stack whose creation failed, protected if the stage keeps its data, and every later
`cdk deploy` fails on it. `clear` brings a stack into a state that can be deployed, and asks before it deletes
anything. What such a stack has left outside itself, the tables of a stage that keeps its data, is adopted by
the deployment that follows (`cdk deploy --import-existing-resources`).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

DEAD = frozenset({"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"})
"""States that a stack leaves only by being deleted: it was never complete, or is half taken away."""

HALF_BACK = frozenset({"UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED"})
"""States of a stack that ran, between its old and its new template."""

QUEUE_NAME_SECONDS = 60
"""How long SQS refuses the name of a deleted queue (DeleteQueue, API reference)."""

_POLL_SECONDS = 5.0
_PATIENCE_SECONDS = 3600.0
"""A function of a VPC takes CloudFormation the longest to delete: under an hour."""


class StackStateError(Exception):
    """The stack cannot be deployed. The message is one line and says what to do."""


class Found(NamedTuple):
    """A stack as CloudFormation describes it.

    Attributes:
        id: its ARN, which goes on naming it after its deletion.
        status: such as `ROLLBACK_COMPLETE`.
        protected: whether it is protected against termination.
    """

    id: str
    status: str
    protected: bool


def find(cloudformation: "CloudFormationClient", stack: str) -> Found | None:
    """The stack of this name or ARN; None where there is none."""
    try:
        described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return None
    if described["StackStatus"] == "DELETE_COMPLETE":
        return None
    return Found(
        described["StackId"], described["StackStatus"], bool(described.get("EnableTerminationProtection"))
    )


def clear(
    cloudformation: "CloudFormationClient",
    stack: str,
    *,
    confirm: Callable[[str], bool],
    say: Callable[[str], None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring a stack into a state that can be deployed.

    A stack that can be deployed already, or that is not there, is left alone. What can only be deleted is
    deleted after `confirm`; what cannot be deleted with it (a table under deletion protection) stays, without
    a stack. Then the names that SQS still holds back are waited for.

    Args:
        cloudformation: a client in the stage's region.
        stack: its name.
        confirm: is asked before anything is changed; False ends it.
        say: is told what happens, a line at a time.
        now: the time, with a time zone.
        sleep: waits some seconds.

    Raises:
        StackStateError: another deployment is running, the person said no, or the stack stays as it is.
    """
    found = find(cloudformation, stack)
    clock = _Clock(now, sleep)
    if found is not None and found.status.endswith("_IN_PROGRESS") and found.status != "REVIEW_IN_PROGRESS":
        if found.status != "DELETE_IN_PROGRESS":
            raise StackStateError(
                f"{stack} is {found.status}: another deployment is running; wait for it, then deploy again"
            )
        say(f"{stack} is being deleted; waiting for it")
        found = _settled(cloudformation, found, clock)
    if found is not None and found.status in HALF_BACK:
        _roll_back(cloudformation, stack, found, confirm, say, clock)
    elif found is not None and found.status in DEAD:
        _delete(cloudformation, stack, found, confirm, say, clock)
    _wait_for_names(cloudformation, stack, say, clock)


class _Clock(NamedTuple):
    now: Callable[[], datetime]
    sleep: Callable[[float], None]


def _delete(
    cloudformation: "CloudFormationClient",
    stack: str,
    found: Found,
    confirm: Callable[[str], bool],
    say: Callable[[str], None],
    clock: _Clock,
) -> None:
    question = (
        f"{stack} is {found.status}: nothing can be deployed into it until it is deleted."
        " What it keeps stays. Delete it?"
    )
    _ask(confirm, question, stack)
    if found.protected:
        cloudformation.update_termination_protection(StackName=found.id, EnableTerminationProtection=False)
    # The first deletion finds out what cannot be deleted; only the second may be told to leave it.
    left: list[str] = []
    for _ in range(2):
        left = _not_deleted(cloudformation, found) if found.status == "DELETE_FAILED" else []
        request: Any = {"StackName": found.id} | ({"RetainResources": left} if left else {})
        cloudformation.delete_stack(**request)
        remaining = _settled(cloudformation, found, clock)
        if remaining is None:
            say(f"deleted {stack}" + (f"; left without a stack: {', '.join(left)}" if left else ""))
            return
        found = remaining
    raise StackStateError(
        f"{stack} cannot be deleted: it is {found.status}; `aws cloudformation describe-stack-events"
        f" --stack-name {stack}` says why"
    )


def _roll_back(
    cloudformation: "CloudFormationClient",
    stack: str,
    found: Found,
    confirm: Callable[[str], bool],
    say: Callable[[str], None],
    clock: _Clock,
) -> None:
    question = (
        f"{stack} is {found.status}: an update failed and was not undone. Roll it back to what ran before?"
    )
    _ask(confirm, question, stack)
    if found.status == "UPDATE_FAILED":
        cloudformation.rollback_stack(StackName=found.id)
    else:
        cloudformation.continue_update_rollback(StackName=found.id)
    after = _settled(cloudformation, found, clock)
    if after is None or after.status in HALF_BACK | DEAD:
        status = "gone" if after is None else after.status
        raise StackStateError(
            f"{stack} is {status}: it could not be rolled back; `aws cloudformation describe-stack-events"
            f" --stack-name {stack}` names the resource, and `aws cloudformation continue-update-rollback"
            f" --stack-name {stack} --resources-to-skip LOGICAL_ID` goes on without it"
        )
    say(f"rolled {stack} back; it is {after.status}")


def _ask(confirm: Callable[[str], bool], question: str, stack: str) -> None:
    if not confirm(question):
        raise StackStateError(f"{stack} was left as it is; nothing was deployed")


def _not_deleted(cloudformation: "CloudFormationClient", found: Found) -> list[str]:
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=found.id)
    return [
        resource["LogicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
        if resource["ResourceStatus"] == "DELETE_FAILED"
    ]


def _settled(cloudformation: "CloudFormationClient", found: Found, clock: _Clock) -> Found | None:
    """The stack once nothing is in progress; None when it is deleted."""
    for _ in range(int(_PATIENCE_SECONDS / _POLL_SECONDS)):
        after = find(cloudformation, found.id)
        if after is None or not after.status.endswith("_IN_PROGRESS"):
            return after
        clock.sleep(_POLL_SECONDS)
    raise StackStateError(
        f"{found.id} has been in progress for {_PATIENCE_SECONDS / 60:.0f} minutes; look at its events, then"
        " deploy again"
    )


def _wait_for_names(
    cloudformation: "CloudFormationClient", stack: str, say: Callable[[str], None], clock: _Clock
) -> None:
    """Wait until SQS gives the queue's name out again, where the stack was deleted a moment ago."""
    deleted = [
        summary["DeletionTime"]
        for page in cloudformation.get_paginator("list_stacks").paginate(
            StackStatusFilter=["DELETE_COMPLETE"]
        )
        for summary in page["StackSummaries"]
        if summary["StackName"] == stack and "DeletionTime" in summary
    ]
    if not deleted:
        return
    seconds = QUEUE_NAME_SECONDS - (clock.now() - max(deleted)).total_seconds()
    if seconds > 0:
        say(f"waiting {seconds:.0f} s: SQS holds back the name of a deleted queue for a minute")
        clock.sleep(seconds)
