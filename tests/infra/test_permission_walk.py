"""Every call that a stage's parts make of each other is allowed; the walk finds the ones that are not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.infra.conftest import SETTINGS
from tests.infra.permission_walk import problems

Document = dict[str, Any]


@pytest.mark.parametrize("stage", SETTINGS)
def test_every_call_is_allowed(documents: dict[str, Document], stage: str) -> None:
    assert problems(documents[stage]) == []


def find(document: Document, kind: str, part: str = "") -> dict[str, Any]:
    """The properties of the one resource of a type whose logical id has this part."""
    found = [r for id_, r in document["Resources"].items() if r["Type"] == kind and part in id_]
    assert len(found) == 1, f"{len(found)} {kind} with {part!r}"
    properties: dict[str, Any] = found[0]["Properties"]
    return properties


def remove(document: Document, kind: str, part: str) -> None:
    (id_,) = (i for i, r in document["Resources"].items() if r["Type"] == kind and part in i)
    del document["Resources"][id_]


def topic_statements(document: Document) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = find(document, "AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    return statements


def key_statements(document: Document) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = find(document, "AWS::KMS::Key")["KeyPolicy"]["Statement"]
    return statements


def without(statements: list[dict[str, Any]], sid: str) -> None:
    kept = [s for s in statements if s.get("Sid") != sid]
    assert len(kept) == len(statements) - 1
    statements[:] = kept


def another_account(document: Document) -> None:
    (allow,) = (s for s in topic_statements(document) if s["Effect"] == "Allow")
    allow["Condition"] = {"StringEquals": {"aws:SourceAccount": "999999999999"}}


def denied(document: Document) -> None:
    topic_statements(document).append(
        {"Effect": "Deny", "Principal": "*", "Action": "sns:*", "Resource": "*"}
    )


def only_denies(document: Document) -> None:
    statements = topic_statements(document)
    statements[:] = [s for s in statements if s["Effect"] == "Deny"]


def not_through_sqs(document: Document) -> None:
    (through,) = (s for s in key_statements(document) if s.get("Sid") == "ThroughServicesOfThisAccount")
    via = through["Condition"]["StringEquals"]["kms:ViaService"]
    via[:] = [service for service in via if not str(service).count("sqs")]


def other_logs(document: Document) -> None:
    (logs,) = (s for s in key_statements(document) if s.get("Sid") == "LogsOfThisAccount")
    logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"] = "arn:aws:logs:*:*:log-group:/other/*"


def another_route(document: Document) -> None:
    permission = find(document, "AWS::Lambda::Permission", "OnDisconnect")
    permission["SourceArn"]["Fn::Join"][1][-1] = "/*$connect"


def another_queue(document: Document) -> None:
    dead = find(document, "AWS::SQS::Queue", "DeadLetters")
    dead["RedriveAllowPolicy"] = {
        "redrivePermission": "byQueue",
        "sourceQueueArns": ["arn:aws:sqs:us-east-1:000000000000:other"],
    }


def worker_may_not(action: str) -> Callable[[Document], None]:
    def seed(document: Document) -> None:
        policy = find(document, "AWS::IAM::Policy", "FanOutWorker")
        for statement in policy["PolicyDocument"]["Statement"]:
            if isinstance(statement["Action"], list) and action in statement["Action"]:
                statement["Action"].remove(action)

    return seed


def mapping_too_soon(document: Document) -> None:
    mappings = [r for r in document["Resources"].values() if r["Type"] == "AWS::Lambda::EventSourceMapping"]
    mappings[0]["DependsOn"] = []


def trusts_another(document: Document) -> None:
    role = find(document, "AWS::IAM::Role", "OnConnect")
    role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] = {"Service": "ec2.amazonaws.com"}


def with_a_star(document: Document) -> None:
    find(document, "AWS::ApiGatewayV2::Stage")["AccessLogSettings"]["DestinationArn"]["Fn::Join"][1].append(
        ":*"
    )


def unknown_target(document: Document) -> None:
    find(document, "AWS::Events::Rule")["Targets"][0]["Arn"] = "arn:aws:states:us-east-1:000000000000:x"


def dead_letters_of_the_rule(document: Document) -> None:
    (id_,) = (
        i
        for i, r in document["Resources"].items()
        if i.startswith("FanOutDeadLetters") and "Queue" in r["Type"] and "Policy" not in r["Type"]
    )
    target = find(document, "AWS::Events::Rule")["Targets"][0]
    target["DeadLetterConfig"] = {"Arn": {"Fn::GetAtt": [id_, "Arn"]}}


def same_sid(document: Document) -> None:
    for statement in topic_statements(document):
        statement["Sid"] = "Same"


SEEDS: dict[str, tuple[Callable[[Document], None], str]] = {
    "the topic's policy has a Deny only": (
        only_denies,
        "does not let cloudwatch.amazonaws.com do sns:Publish: its policy has no Allow",
    ),
    "an Allow for another account": (another_account, "do sns:Publish: no Allow of its policy matches"),
    "a Deny over the Allow": (denied, "or a Deny does"),
    "the key has no statement for alarms": (
        lambda d: without(key_statements(d), "AlarmsOfThisAccount"),
        "key Key961B73FD does not let cloudwatch.amazonaws.com do kms:Decrypt",
    ),
    "the key has no statement for logs": (
        lambda d: without(key_statements(d), "LogsOfThisAccount"),
        "does not let logs.us-east-1.amazonaws.com do kms:Encrypt",
    ),
    "the key's statement for logs is of other groups": (other_logs, "does not let logs.us-east-1"),
    "the key cannot be used through SQS": (not_through_sqs, "AWS::SQS::Queue FanOutQueue"),
    "the schedule may not call its function": (
        lambda d: remove(d, "AWS::Lambda::Permission", "Schedule"),
        "no AWS::Lambda::Permission lets events.amazonaws.com invoke",
    ),
    "the permission is for another route": (another_route, "route $disconnect: no AWS::Lambda::Permission"),
    "a route without its integration": (
        lambda d: find(d, "AWS::ApiGatewayV2::Route", "default").update(Target="integrations/gone"),
        "there is no integration",
    ),
    "the dead-letter queue takes another queue's": (another_queue, "takes no failed messages of it"),
    "the reader may not receive": (worker_may_not("sqs:ReceiveMessage"), "may not do sqs:ReceiveMessage"),
    "the mapping is made before the right": (mapping_too_soon, "may be made before FanOutWorkerRole"),
    "a function may not log": (worker_may_not("logs:PutLogEvents"), "may not do logs:PutLogEvents"),
    "a role trusts another service": (trusts_another, "cannot be assumed by lambda.amazonaws.com"),
    "the access log's ARN has a star": (with_a_star, "is not the ARN of a log group without its `:*`"),
    "a target that the walk does not know": (unknown_target, "a target that is not known here"),
    "the dead-letter queue of a rule": (
        dead_letters_of_the_rule,
        "does not let events.amazonaws.com do sqs:SendMessage",
    ),
    "two statements of a topic's policy with one Sid": (same_sid, "every statement needs a Sid of its own"),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seeded_fault_is_found(documents: dict[str, Document], seed: str) -> None:
    document = copy.deepcopy(documents["own-key"])
    break_it, message = SEEDS[seed]
    break_it(document)
    found = problems(document)
    assert found
    assert any(message in problem for problem in found), found


def test_the_account_s_log_role_without_its_policy_is_found(documents: dict[str, Document]) -> None:
    document = copy.deepcopy(documents["account"])
    find(document, "AWS::IAM::Role", "CloudWatchRole")["ManagedPolicyArns"] = []
    (problem,) = problems(document)
    assert "its role has not the policy service-role/AmazonAPIGatewayPushToCloudWatchLogs" in problem


def test_what_the_walk_does_not_understand_is_not_passed_over(documents: dict[str, Document]) -> None:
    document = copy.deepcopy(documents["own-key"])
    topic_statements(document)[0]["Condition"] = {"DateGreaterThan": {"aws:SourceAccount": "x"}}
    with pytest.raises(AssertionError, match="a condition DateGreaterThan, which is not known here"):
        problems(document)
