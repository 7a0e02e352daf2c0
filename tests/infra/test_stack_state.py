"""`roomcast unblock`: every state of a stack becomes one that can be deployed, or one line says why not."""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from roomcast_dev.cli import stack_state, target
from roomcast_dev.cli.stack_state import StackStateError
from tests.infra.cloudformation import Cloud, CloudFormation, Document
from tests.unit.cli.conftest import Roomcast
from tests.unit.cli.conftest import own_directory as own_directory
from tests.unit.cli.conftest import roomcast as roomcast

NAME = "landinghub-websocket-prod"
TABLE = {
    "Type": "AWS::DynamoDB::Table",
    "DeletionPolicy": "RetainExceptOnCreate",
    "Properties": {"TableName": "people", "DeletionProtectionEnabled": True},
}
TOPIC = {"Type": "AWS::SNS::Topic", "Properties": {}}
QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "jobs"}}
POLICY = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"ManagedPolicyName": "send"}}
STAGE: Document = {"Resources": {"Table": TABLE, "Queue": QUEUE, "Policy": POLICY, "Last": TOPIC}}


class Person:
    """Answers the question, reads what is said, and waits."""

    def __init__(self, cloud: Cloud, *, answer: bool = True) -> None:
        self.cloud = cloud
        self.answer = answer
        self.asked: list[str] = []
        self.heard: list[str] = []
        self.waited = 0.0

    def clear(self, cloudformation: Any) -> None:
        def confirm(question: str) -> bool:
            self.asked.append(question)
            return self.answer

        stack_state.clear(
            cloudformation, NAME, confirm=confirm, say=self.heard.append, now=self.now, sleep=self.sleep
        )

    def now(self) -> datetime:
        return self.cloud.now

    def sleep(self, seconds: float) -> None:
        self.waited += seconds
        self.cloud.now += timedelta(seconds=seconds)


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def here(cloud: Cloud) -> CloudFormation:
    return CloudFormation(cloud)


@pytest.fixture
def person(cloud: Cloud) -> Person:
    return Person(cloud)


def names(cloud: Cloud) -> set[str]:
    return {physical.name for physical in cloud.everything}


def test_where_nothing_is_in_the_way_nothing_is_asked(here: CloudFormation, person: Person) -> None:
    person.clear(here)
    here.deploy(NAME, STAGE)
    person.clear(here)
    here.deploy(NAME, {"Resources": {**STAGE["Resources"], "New": TOPIC}}, fail_at="New")
    person.clear(here)  # UPDATE_ROLLBACK_COMPLETE: what ran before runs
    assert (person.asked, person.heard, person.waited) == ([], [], 0.0)


def test_a_protected_stack_whose_creation_failed_is_deleted_after_asking(
    cloud: Cloud, here: CloudFormation, person: Person
) -> None:
    bare = {"Resources": {"Last": TOPIC}}
    here.deploy(NAME, bare, protect=True, fail_at="Last")
    person.clear(here)
    assert person.asked == [
        f"{NAME} is ROLLBACK_COMPLETE: nothing can be deployed into it until it is deleted."
        " What it keeps stays. Delete it?"
    ]
    assert person.heard[0] == f"deleted {NAME}"
    assert here.deploy(NAME, bare, protect=True).status == "CREATE_COMPLETE"


def test_no_means_that_nothing_changes(here: CloudFormation, cloud: Cloud) -> None:
    here.deploy(NAME, STAGE, protect=True, fail_at="Last")
    before = names(cloud)
    with pytest.raises(StackStateError, match=f"{NAME} was left as it is; nothing was deployed"):
        Person(cloud, answer=False).clear(here)
    assert names(cloud) == before
    assert here.describe_stacks(StackName=NAME)["Stacks"][0]["EnableTerminationProtection"] is True


def test_a_table_that_resists_the_rollback_stays_and_is_adopted(
    cloud: Cloud, here: CloudFormation, person: Person
) -> None:
    assert here.deploy(NAME, STAGE, fail_at="Last").status == "ROLLBACK_FAILED"
    person.clear(here)
    assert names(cloud) == {"people"}
    assert here.deploy(NAME, STAGE, adopt=True).status == "CREATE_COMPLETE"


def test_what_cannot_be_deleted_is_left_and_named(cloud: Cloud, here: CloudFormation, person: Person) -> None:
    here.deploy(NAME, STAGE)
    cloud.attached.add("send")
    here.delete_stack(StackName=NAME)
    person.clear(here)
    assert person.heard[0] == f"deleted {NAME}; left without a stack: Policy"
    assert names(cloud) == {"people", "send"}


def test_the_queues_minute_is_waited_for(cloud: Cloud, here: CloudFormation, person: Person) -> None:
    here.deploy(NAME, {"Resources": {"Queue": QUEUE}})
    here.delete_stack(StackName=NAME)
    cloud.now += timedelta(seconds=20)
    person.clear(here)
    assert person.waited == 40
    assert person.heard == ["waiting 40 s: SQS holds back the name of a deleted queue for a minute"]
    assert here.deploy(NAME, {"Resources": {"Queue": QUEUE}}).status == "CREATE_COMPLETE"


def test_a_stack_that_was_deleted_long_ago_is_not_waited_for(
    cloud: Cloud, here: CloudFormation, person: Person
) -> None:
    here.deploy(NAME, {"Resources": {"Queue": QUEUE}})
    here.delete_stack(StackName=NAME)
    cloud.now += timedelta(days=1)
    person.clear(here)
    assert person.waited == 0


def test_an_update_that_could_not_be_undone_is_rolled_back(here: CloudFormation, person: Person) -> None:
    here.deploy(NAME, STAGE)
    changed = {**QUEUE, "Properties": {"QueueName": "jobs", "VisibilityTimeout": 9}}
    after = {"Resources": {**STAGE["Resources"], "Queue": changed, "New": TOPIC}}
    here.deploy(NAME, after, fail_at="New", fail_rollback_at="Queue")
    person.clear(here)
    assert "an update failed and was not undone" in person.asked[0]
    assert person.heard == [f"rolled {NAME} back; it is UPDATE_ROLLBACK_COMPLETE"]
    assert here.deploy(NAME, after).status == "UPDATE_COMPLETE"


class Scripted:
    """A CloudFormation whose stack has one status after the other.

    Args:
        statuses: the last one stays.
    """

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)
        self.calls: list[str] = []

    def describe_stacks(self, **request: Any) -> Any:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return {"Stacks": [{"StackName": NAME, "StackId": "arn:stack", "StackStatus": status}]}

    def get_paginator(self, operation: str) -> Any:
        class Pages:
            def paginate(self, **request: Any) -> list[Any]:
                return [{"StackSummaries": [], "StackResourceSummaries": []}]

        return Pages()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda **request: self.calls.append(name)


@pytest.mark.parametrize(
    "status", ["CREATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"]
)
def test_another_deployment_is_not_disturbed(person: Person, status: str) -> None:
    scripted = Scripted(status)
    with pytest.raises(StackStateError, match=f"is {status}: another deployment is running; wait for it"):
        person.clear(scripted)
    assert scripted.calls == []


def test_a_deletion_under_way_is_waited_for(person: Person) -> None:
    scripted = Scripted("DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS", "DELETE_COMPLETE")
    person.clear(scripted)
    assert person.heard == [f"{NAME} is being deleted; waiting for it"]
    assert (person.asked, scripted.calls, person.waited) == ([], [], 10.0)


def test_a_stack_under_review_is_left_to_cdk(person: Person) -> None:
    scripted = Scripted("REVIEW_IN_PROGRESS")
    person.clear(scripted)
    assert (person.asked, scripted.calls) == ([], [])


def test_a_stack_that_will_not_go_is_one_line(person: Person) -> None:
    scripted = Scripted("DELETE_FAILED")
    with pytest.raises(StackStateError, match="cannot be deleted: it is DELETE_FAILED; `aws cloudformation"):
        person.clear(scripted)
    assert scripted.calls == ["delete_stack", "delete_stack"]


def test_a_rollback_that_fails_again_names_the_way_on(person: Person) -> None:
    with pytest.raises(StackStateError, match="--resources-to-skip LOGICAL_ID` goes on without it"):
        person.clear(Scripted("UPDATE_ROLLBACK_FAILED"))


def test_waiting_has_an_end(person: Person) -> None:
    with pytest.raises(StackStateError, match="has been in progress for 60 minutes"):
        person.clear(Scripted("DELETE_IN_PROGRESS"))


# The command


@pytest.fixture
def command(here: CloudFormation, monkeypatch: pytest.MonkeyPatch, roomcast: Roomcast) -> Roomcast:
    here.cloud.now = datetime.now(here.cloud.now.tzinfo) - timedelta(minutes=5)
    monkeypatch.setattr(target, "client", lambda service, region: cast("Any", here))
    return roomcast


def test_the_command_does_it_without_asking_when_told_so(here: CloudFormation, command: Roomcast) -> None:
    here.deploy(NAME, {"Resources": {"Last": TOPIC}}, protect=True, fail_at="Last")
    answer = command("unblock", "--stage", "prod", "--yes")
    assert (answer.code, answer.out, answer.err) == (0, "", f"deleted {NAME}\n")
    assert command("unblock", "--stage", "prod").code == 0


def test_without_a_terminal_it_asks_nobody(
    here: CloudFormation, command: Roomcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.deploy(NAME, {"Resources": {"Last": TOPIC}}, fail_at="Last")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    answer = command("unblock", "--stage", "prod")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert answer.err.endswith("Delete it? There is nobody to ask here: add --yes (make: YES=1)\n")


def test_another_deployment_is_one_line(command: Roomcast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "client", lambda service, region: cast("Any", Scripted("UPDATE_IN_PROGRESS")))
    answer = command("unblock", "--stage", "prod", "--yes")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert f"{NAME} is UPDATE_IN_PROGRESS: another deployment is running" in answer.err
