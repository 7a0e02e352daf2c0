"""The simulator does what CloudFormation's documentation says, shown on templates of a few lines."""

from datetime import timedelta
from typing import Any

import pytest

from tests.infra.cloudformation import Cloud, CloudFormation, Document, RefusedError, order

TABLE = {"Type": "AWS::DynamoDB::Table", "Properties": {"TableName": "people"}}
QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "jobs"}}
BOARD = {
    "Type": "AWS::CloudWatch::Dashboard",
    "Properties": {"DashboardName": "board", "DashboardBody": "{}"},
}
TOPIC = {"Type": "AWS::SNS::Topic", "Properties": {}}


def template(**resources: Any) -> Document:
    return {"Resources": resources}


def keeping(resource: dict[str, Any], policy: str = "Retain") -> dict[str, Any]:
    return {**resource, "DeletionPolicy": policy, "UpdateReplacePolicy": policy}


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def here(cloud: Cloud) -> CloudFormation:
    return CloudFormation(cloud)


def names(cloud: Cloud) -> list[str]:
    return sorted(physical.name for physical in cloud.everything)


def test_resources_are_made_after_what_they_refer_to() -> None:
    a = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Fn::Join": ["", ["x", {"Ref": "B"}]]}}}
    b = {"Type": "AWS::SNS::Topic", "DependsOn": "C", "Properties": {}}
    c = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Fn::Sub": "${D.TopicName}"}}}
    assert order(template(A=a, B=b, C=c, D=TOPIC)) == ["D", "C", "B", "A"]


def test_a_creation_that_fails_is_rolled_back_but_for_what_is_retained(
    cloud: Cloud, here: CloudFormation
) -> None:
    document = template(
        Table=keeping(TABLE), Queue=QUEUE, Secret=keeping(TOPIC, "RetainExceptOnCreate"), Last=TOPIC
    )
    stack = here.deploy("s", document, fail_at="Last")
    assert stack.status == "ROLLBACK_COMPLETE"
    assert names(cloud) == ["people"]


def test_the_next_creation_finds_the_table_in_the_way(here: CloudFormation) -> None:
    document = template(Table=keeping(TABLE), Last=TOPIC)
    here.deploy("s", document, fail_at="Last")
    stack = here.deploy("s", document)
    assert (stack.status, stack.reason) == ("ROLLBACK_COMPLETE", "people already exists")
    assert here.deploy("s", document, adopt=True).status == "CREATE_COMPLETE"


def test_a_protected_stack_whose_creation_failed_stops_the_command(here: CloudFormation) -> None:
    here.deploy("s", template(A=TOPIC), protect=True, fail_at="A")
    with pytest.raises(RefusedError, match="cannot be deleted while TerminationProtection is enabled"):
        here.deploy("s", template(A=TOPIC), protect=True)


def test_deletion_protection_makes_the_rollback_itself_fail(cloud: Cloud, here: CloudFormation) -> None:
    table = {"Type": TABLE["Type"], "Properties": {"TableName": "people", "DeletionProtectionEnabled": True}}
    document = template(Table=keeping(table, "RetainExceptOnCreate"), Last=TOPIC)
    assert here.deploy("s", document, fail_at="Last").status == "ROLLBACK_FAILED"
    # Deleting the stack is not a creation any more: the table is retained.
    here.delete_stack(StackName="s")
    assert names(cloud) == ["people"]
    assert [physical.name for physical in cloud.orphans()] == ["people"]


def test_a_stack_that_cannot_be_deleted_is_deleted_without_what_resists(
    cloud: Cloud, here: CloudFormation
) -> None:
    policy = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"ManagedPolicyName": "send"}}
    stack = here.deploy("s", template(Policy=policy, Topic=TOPIC))
    cloud.attached.add("send")
    here.delete_stack(StackName="s")
    assert (stack.status, stack.reason) == (
        "DELETE_FAILED",
        "Cannot delete a policy attached to entities: send",
    )
    with pytest.raises(RefusedError, match="can not be updated"):
        here.deploy("s", template(Topic=TOPIC))
    here.delete_stack(StackName="s", RetainResources=["Policy"])
    assert stack.status == "DELETE_COMPLETE"
    assert names(cloud) == ["send"]


@pytest.mark.parametrize(
    ("resource", "adopted"),
    [
        (keeping(TABLE), True),
        (keeping(TABLE, "RetainExceptOnCreate"), True),
        (TABLE, False),  # a change set adopts only what the stack would keep
        (keeping(QUEUE), False),  # a queue is known by its URL, which no template holds
        ({**keeping(TABLE), "Properties": {"TableName": {"Fn::Sub": "people"}}}, False),  # no static name
    ],
)
def test_what_a_change_set_adopts(
    cloud: Cloud, here: CloudFormation, resource: dict[str, Any], *, adopted: bool
) -> None:
    for kind, name in (("AWS::DynamoDB::Table", "people"), ("AWS::SQS::Queue", "jobs")):
        cloud.create(kind, name, here.region, {}, None)
    stack = here.deploy("s", template(It=resource), adopt=True)
    assert stack.status == ("CREATE_COMPLETE" if adopted else "ROLLBACK_COMPLETE")


def test_what_another_stack_has_is_not_adopted(here: CloudFormation) -> None:
    here.deploy("one", template(Table=keeping(TABLE)))
    with pytest.raises(RefusedError, match="people belongs to another stack already"):
        here.deploy("two", template(Table=keeping(TABLE)), adopt=True)


def test_an_adopted_table_outlives_a_rollback_and_shows_how_it_differs(
    cloud: Cloud, here: CloudFormation
) -> None:
    cloud.create("AWS::DynamoDB::Table", "people", here.region, {"TableName": "people", "X": 1}, None)
    assert (
        here.deploy("s", template(Table=keeping(TABLE), A=TOPIC), adopt=True, fail_at="A").status
        == "ROLLBACK_COMPLETE"
    )
    assert names(cloud) == ["people"]
    stack = here.deploy("s", template(Table=keeping(TABLE), A=TOPIC), adopt=True)
    assert stack.resources["Table"].drift == {"X"}


def test_a_queues_name_is_held_back_for_a_minute(cloud: Cloud, here: CloudFormation) -> None:
    here.deploy("s", template(Queue=QUEUE))
    here.delete_stack(StackName="s")
    stack = here.deploy("s", template(Queue=QUEUE))
    assert stack.reason.startswith("You must wait 60 seconds")
    cloud.now += timedelta(seconds=60)
    assert here.deploy("s", template(Queue=QUEUE)).status == "CREATE_COMPLETE"


def test_dashboards_are_the_accounts_and_tables_the_regions(cloud: Cloud, here: CloudFormation) -> None:
    there = CloudFormation(cloud, "us-east-1")
    assert here.deploy("s", template(Table=TABLE, Board=BOARD)).status == "CREATE_COMPLETE"
    assert there.deploy("s", template(Table=TABLE)).status == "CREATE_COMPLETE"
    assert there.deploy("t", template(Board=BOARD)).reason == "board already exists"


def test_an_update_that_fails_goes_back_and_keeps_what_ran(cloud: Cloud, here: CloudFormation) -> None:
    here.deploy("s", template(Table=TABLE))
    changed = {"Type": TABLE["Type"], "Properties": {"TableName": "people", "BillingMode": "PAY_PER_REQUEST"}}
    stack = here.deploy(
        "s", template(Table=changed, New=TOPIC, Kept=keeping(TOPIC), Last=TOPIC), fail_at="Last"
    )
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.resources["Table"].properties == {"TableName": "people"}
    assert [physical.name.split("-")[1] for physical in cloud.orphans()] == ["Kept"]
    assert here.deploy("s", template(Table=changed)).status == "UPDATE_COMPLETE"


def test_an_update_that_cannot_go_back_is_stuck_until_told_to_go_on(here: CloudFormation) -> None:
    here.deploy("s", template(Table=TABLE))
    changed = {"Type": TABLE["Type"], "Properties": {"TableName": "people", "BillingMode": "PAY_PER_REQUEST"}}
    stuck = here.deploy("s", template(Table=changed, Last=TOPIC), fail_at="Last", fail_rollback_at="Table")
    assert stuck.status == "UPDATE_ROLLBACK_FAILED"
    with pytest.raises(RefusedError, match="can not be updated"):
        here.deploy("s", template(Table=changed))
    here.continue_update_rollback(StackName="s")
    assert here.deploy("s", template(Table=changed)).status == "UPDATE_COMPLETE"


def test_a_named_resource_cannot_be_replaced_and_an_unnamed_one_can(
    cloud: Cloud, here: CloudFormation
) -> None:
    other_key = {"Type": TABLE["Type"], "Properties": {"TableName": "people", "KeySchema": ["id"]}}
    here.deploy("s", template(Table=TABLE, Topic=keeping(TOPIC)))
    stack = here.deploy("s", template(Table=other_key, Topic=keeping(TOPIC)))
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "a custom-named resource requires replacing" in stack.reason
    before = stack.resources["Topic"].name
    fifo = keeping({"Type": "AWS::SNS::Topic", "Properties": {"FifoTopic": True}})
    here.deploy("s", template(Table=TABLE, Topic=fifo))
    assert stack.resources["Topic"].name != before
    assert [physical.name for physical in cloud.orphans()] == [before]  # UpdateReplacePolicy: Retain


def test_what_leaves_the_template_is_deleted_or_kept_by_its_policy(
    cloud: Cloud, here: CloudFormation
) -> None:
    stack = here.deploy("s", template(Table=keeping(TABLE), Queue=QUEUE, A=TOPIC))
    here.deploy("s", template(A=TOPIC))
    assert list(stack.resources) == ["A"]
    assert [physical.name for physical in cloud.orphans()] == ["people"]


def stage(**properties: Any) -> dict[str, Any]:
    of = {"ApiId": {"Ref": "Api"}, "StageName": "prod", "DefaultRouteSettings": {"LoggingLevel": "ERROR"}}
    return {"Type": "AWS::ApiGatewayV2::Stage", "Properties": of | properties}


API = {"Type": "AWS::ApiGatewayV2::Api", "Properties": {}}
GROUP = {
    "Type": "AWS::Logs::LogGroup",
    "Properties": {"LogGroupName": {"Fn::Join": ["", ["/aws/apigateway/", {"Ref": "Api"}, "/prod"]]}},
}


def test_gateway_logs_need_the_accounts_role(here: CloudFormation) -> None:
    stack = here.deploy("s", template(Api=API, Stage=stage()))
    assert stack.reason.startswith("CloudWatch Logs role ARN must be set")


def test_the_gateway_makes_its_log_group_where_nobody_has(cloud: Cloud, here: CloudFormation) -> None:
    cloud.gateway_role.add(here.region)
    here.deploy("s", template(Api=API, Stage=stage()))
    (group,) = cloud.orphans()
    assert group.kind == "AWS::Logs::LogGroup"
    # From then on a group of that name is in the way of the stack's own.
    stack = here.deploy("s", template(Api=API, Stage=stage(), Group=GROUP))
    assert stack.reason == f"{group.name} already exists"


@pytest.mark.parametrize(
    ("group", "status"), [(GROUP, "UPDATE_COMPLETE"), (keeping(GROUP), "UPDATE_ROLLBACK_COMPLETE")]
)
def test_a_retained_group_with_a_fixed_name_stops_the_second_time(
    cloud: Cloud, here: CloudFormation, group: dict[str, Any], status: str
) -> None:
    cloud.gateway_role.add(here.region)
    logging = template(Api=API, Group=group, Stage={**stage(), "DependsOn": ["Group"]})
    here.deploy("s", logging)
    here.deploy("s", template(Api=API, Stage=stage(DefaultRouteSettings={})))
    assert here.deploy("s", logging).status == status
