"""Who calls whom in a template, and whether each call is allowed: AWS says so only when it happens.

An alarm whose topic refuses it, a queue whose dead-letter queue refuses it, a log group whose key does not
let the log service in: each deploys, and fails silently later. Every such arrow is followed here, from its
source to the policy and the key at its end.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.infra.arns import ACCOUNT, REGION, SUFFIX, Arns, listed
from tests.infra.policies import Call, allows

_TRUSTED = {
    ("AWS::ApiGateway::Account", "CloudWatchRoleArn"): "apigateway.amazonaws.com",
    ("AWS::CodeDeploy::DeploymentGroup", "ServiceRoleArn"): "codedeploy.amazonaws.com",
    ("AWS::Lambda::Function", "Role"): "lambda.amazonaws.com",
}
"""Properties that hold a role, and the service that assumes it."""

_ENCRYPTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "AWS::DynamoDB::Table": ("dynamodb", lambda p: p.get("SSESpecification", {}).get("KMSMasterKeyId")),
    "AWS::Lambda::Function": ("lambda", lambda p: p.get("KmsKeyArn")),
    "AWS::SNS::Topic": ("sns", lambda p: p.get("KmsMasterKeyId")),
    "AWS::SQS::Queue": ("sqs", lambda p: p.get("KmsMasterKeyId")),
    "AWS::SecretsManager::Secret": ("secretsmanager", lambda p: p.get("KmsKeyId")),
}
"""What is stored under a key, and the service that uses the key on behalf of whoever calls it."""

_BY_GRANT = {"dynamodb", "lambda"}
"""Services that take a grant of the key when the resource is made."""

_LOGS_MANAGED = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"


def problems(document: dict[str, Any]) -> list[str]:
    """What would be refused in a stack of this template, one line each."""
    walk = _Walk(document)
    steps: tuple[Callable[[], Iterator[str]], ...] = (
        *(walk.alarms, walk.rules, walk.routes, walk.queue_readers, walk.dead_letters),
        *(walk.function_logs, walk.gateway_logs, walk.log_keys, walk.stores, walk.trust, walk.topics),
    )
    return [problem for step in steps for problem in step()]


class _Walk:
    def __init__(self, document: dict[str, Any]) -> None:
        self._arns = Arns(document)
        self._all = self._arns.all

    def alarms(self) -> Iterator[str]:
        """Alarm -> action -> topic -> policy -> key."""
        for id_, alarm in self._of_type("AWS::CloudWatch::Alarm"):
            actions = {
                self._arns.fill(action)
                for kind in ("AlarmActions", "InsufficientDataActions", "OKActions")
                for action in alarm.get(kind, [])
            }
            for target in sorted(actions):
                yield from self._notifies(
                    f"alarm {id_}", "cloudwatch.amazonaws.com", target, self._arns.of(id_)
                )

    def rules(self) -> Iterator[str]:
        """Schedule or event -> target; and -> the dead-letter queue of a target."""
        for id_, rule in self._of_type("AWS::Events::Rule"):
            source, service = self._arns.of(id_), "events.amazonaws.com"
            for target in rule["Targets"]:
                yield from self._calls(f"rule {id_}", service, self._arns.fill(target["Arn"]), source)
                dead = target.get("DeadLetterConfig", {}).get("Arn")
                if dead:
                    yield from self._calls(f"rule {id_}", service, self._arns.fill(dead), source)

    def routes(self) -> Iterator[str]:
        """Route of the API -> integration -> function."""
        for id_, route in self._of_type("AWS::ApiGatewayV2::Route"):
            integration = self._arns.fill(route["Target"]).removeprefix("integrations/")
            if integration not in self._all:
                yield f"route {id_}: there is no integration {integration}"
                continue
            properties = self._all[integration]["Properties"]
            found = re.search(
                r"/functions/(arn:.*)/invocations$", self._arns.fill(properties["IntegrationUri"])
            )
            if not found:
                yield f"route {id_}: {integration} names no function"
                continue
            api, key = self._arns.fill(route["ApiId"]), route["RouteKey"]
            source = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/anystage/{key}"
            yield from self._calls(f"route {key}", "apigateway.amazonaws.com", found[1], source)

    def queue_readers(self) -> Iterator[str]:
        """Queue -> event source mapping -> the function's role, which Lambda checks on the spot."""
        actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
        for id_, mapping in self._of_type("AWS::Lambda::EventSourceMapping"):
            function = self._function(self._arns.fill(mapping["FunctionName"]))
            if function is None:
                yield f"mapping {id_}: there is no function {mapping['FunctionName']}"
                continue
            queue = self._arns.fill(mapping["EventSourceArn"])
            yield from self._role_may(f"mapping {id_}", function, actions, queue)
            policies = {
                policy
                for policy, properties in self._of_type("AWS::IAM::Policy")
                if self._role_id(function) in map(self._arns.fill, properties.get("Roles", []))
            }
            waits_for = set(listed(self._all[id_].get("DependsOn", [])))
            if policies and not policies & waits_for:
                yield f"mapping {id_}: may be made before {', '.join(sorted(policies))}, which its role needs"

    def dead_letters(self) -> Iterator[str]:
        """Queue -> redrive policy -> dead-letter queue that lets this queue in."""
        for id_, queue in self._of_type("AWS::SQS::Queue"):
            target = queue.get("RedrivePolicy", {}).get("deadLetterTargetArn")
            if target is None:
                continue
            dead = self._arns.find(self._arns.fill(target), "AWS::SQS::Queue")
            if dead is None:
                yield f"queue {id_}: its dead-letter queue is not in this stack"
                continue
            properties = self._all[dead].get("Properties", {})
            allowed = properties.get("RedriveAllowPolicy", {"redrivePermission": "allowAll"})
            sources = [self._arns.fill(arn) for arn in allowed.get("sourceQueueArns", [])]
            if allowed["redrivePermission"] == "denyAll" or (
                allowed["redrivePermission"] == "byQueue" and self._arns.of(id_) not in sources
            ):
                yield f"queue {id_}: {dead} takes no failed messages of it"
            if bool(queue.get("FifoQueue")) != bool(properties.get("FifoQueue")):
                yield f"queue {id_}: {dead} must be FIFO as well, or neither"

    def function_logs(self) -> Iterator[str]:
        """Function -> its role -> its log group."""
        for id_, function in self._of_type("AWS::Lambda::Function"):
            group = function.get("LoggingConfig", {}).get("LogGroup")
            name = f"/aws/lambda/{self._arns.name(id_)}" if group is None else self._arns.fill(group)
            arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:log-stream:x"
            actions = ("logs:CreateLogStream", "logs:PutLogEvents")
            yield from self._role_may(f"function {id_}", id_, actions, arn)

    def gateway_logs(self) -> Iterator[str]:
        """Stage of the API -> the account's role -> log group. The role may be the account's own already."""
        groups = {self._arns.of(id_) for id_, _ in self._of_type("AWS::Logs::LogGroup")}
        for id_, stage in self._of_type("AWS::ApiGatewayV2::Stage"):
            target = stage.get("AccessLogSettings", {}).get("DestinationArn")
            if target is not None and f"{self._arns.fill(target)}:*" not in groups:
                yield f"stage {id_}: {self._arns.fill(target)} is not the ARN of a log group without its `:*`"
        for id_, account in self._of_type("AWS::ApiGateway::Account"):
            role = self._arns.find(self._arns.fill(account["CloudWatchRoleArn"]), "AWS::IAM::Role")
            managed = self._all[role or id_]["Properties"].get("ManagedPolicyArns", [])
            if not any(self._arns.fill(arn).endswith(_LOGS_MANAGED) for arn in managed):
                yield f"account {id_}: its role has not the policy {_LOGS_MANAGED}"

    def log_keys(self) -> Iterator[str]:
        """Log group -> key, used by the log service itself."""
        actions = (
            "kms:Encrypt",
            "kms:Decrypt",
            "kms:ReEncryptFrom",
            "kms:GenerateDataKey",
            "kms:DescribeKey",
        )
        for id_, group in self._of_type("AWS::Logs::LogGroup"):
            if "KmsKeyId" not in group:
                continue
            arn = self._arns.of(id_).removesuffix(":*")
            context = {"kms:encryptioncontext:aws:logs:arn": arn}
            service = f"logs.{REGION}.{SUFFIX}"
            yield from self._key_lets(f"log group {id_}", service, group["KmsKeyId"], actions, context)

    def stores(self) -> Iterator[str]:
        """Role of this account -> service -> key."""
        for kind, (service, key_of) in _ENCRYPTS.items():
            actions = ["kms:Decrypt", "kms:GenerateDataKey"]
            if service in _BY_GRANT:
                actions += ["kms:CreateGrant", "kms:DescribeKey"]
            for id_, properties in self._of_type(kind):
                key = key_of(properties)
                if key is None:
                    continue
                context = {
                    "kms:calleraccount": ACCOUNT,
                    "kms:viaservice": f"{service}.{REGION}.{SUFFIX}",
                }
                caller = f"arn:aws:iam::{ACCOUNT}:role/any"
                yield from self._key_lets(f"{kind} {id_}", caller, key, actions, context)

    def trust(self) -> Iterator[str]:
        """Role -> the service that assumes it."""
        for (kind, name), service in _TRUSTED.items():
            for id_, properties in self._of_type(kind):
                arn = self._arns.fill(properties[name])
                role = self._arns.find(arn, "AWS::IAM::Role")
                if role is None:
                    yield f"{kind} {id_}: there is no role {arn}"
                    continue
                trusts = self._all[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
                call = Call(service, "sts:AssumeRole", arn)
                if not allows(trusts, call, self._arns):
                    yield f"{kind} {id_}: role {role} cannot be assumed by {service}"

    def topics(self) -> Iterator[str]:
        """Topic -> its policy, of which SNS accepts only one whose statements are told apart."""
        for id_, policy in self._of_type("AWS::SNS::TopicPolicy"):
            sids = [s.get("Sid") for s in listed(policy["PolicyDocument"]["Statement"])]
            if len(sids) > 1 and (None in sids or len(set(sids)) < len(sids)):
                yield f"topic policy {id_}: every statement needs a Sid of its own, not {sids}"

    # What is at the end of an arrow

    def _calls(self, who: str, service: str, target: str, source: str) -> Iterator[str]:
        match target.split(":")[2]:
            case "sns":
                yield from self._notifies(who, service, target, source)
            case "sqs":
                yield from self._enqueues(who, service, target, source)
            case "lambda":
                yield from self._invokes(who, service, target, source)
            case _:
                yield f"{who}: a target that is not known here: {target}"

    def _notifies(self, who: str, service: str, target: str, source: str) -> Iterator[str]:
        topic = self._arns.find(target, "AWS::SNS::Topic")
        if topic is None:
            # A topic of another stack has a policy of its own; whatever else it is must be known first.
            if target.split(":")[2] != "sns":
                yield f"{who}: a target that is not known here: {target}"
            return
        policies = [
            p
            for _, p in self._of_type("AWS::SNS::TopicPolicy")
            if target in map(self._arns.fill, p["Topics"])
        ]
        context = _from(source)
        yield from self._resource_lets(who, Call(service, "sns:Publish", target, context), policies, topic)
        key = self._all[topic].get("Properties", {}).get("KmsMasterKeyId")
        if key is not None:
            actions = ("kms:Decrypt", "kms:GenerateDataKey")
            yield from self._key_lets(f"{who} -> topic {topic}", service, key, actions, context)

    def _enqueues(self, who: str, service: str, target: str, source: str) -> Iterator[str]:
        queue = self._arns.find(target, "AWS::SQS::Queue")
        if queue is None:
            yield f"{who}: there is no queue {target}"
            return
        url = self._arns.fill({"Ref": queue})
        policies = [
            p for _, p in self._of_type("AWS::SQS::QueuePolicy") if url in map(self._arns.fill, p["Queues"])
        ]
        context = _from(source)
        # Without a policy a queue takes messages only of its account's roles, not of a service.
        call = Call(service, "sqs:SendMessage", target, context)
        yield from self._resource_lets(who, call, policies, queue, open_without=False)
        key = self._all[queue].get("Properties", {}).get("KmsMasterKeyId")
        if key is not None:
            actions = ("kms:Decrypt", "kms:GenerateDataKey")
            yield from self._key_lets(f"{who} -> queue {queue}", service, key, actions, context)

    def _invokes(self, who: str, service: str, target: str, source: str) -> Iterator[str]:
        if self._function(target) is None:
            yield f"{who}: there is no function {target}"
            return
        for _, permission in self._of_type("AWS::Lambda::Permission"):
            named = self._arns.fill(permission["FunctionName"])
            statement = {
                "Effect": "Allow",
                "Action": permission["Action"],
                "Principal": {"Service": permission["Principal"]},
                "Resource": named if named.startswith("arn:") else f"*:function:{named}",
                "Condition": {
                    "ArnLike": {"aws:SourceArn": permission["SourceArn"]}
                    if "SourceArn" in permission
                    else {},
                    "StringEquals": (
                        {"aws:SourceAccount": permission["SourceAccount"]}
                        if "SourceAccount" in permission
                        else {}
                    ),
                },
            }
            call = Call(service, "lambda:InvokeFunction", target, _from(source))
            if allows([statement], call, self._arns):
                return
        yield f"{who}: no AWS::Lambda::Permission lets {service} invoke {target} for {source}"

    def _resource_lets(
        self, who: str, call: Call, policies: list[dict[str, Any]], id_: str, *, open_without: bool = True
    ) -> Iterator[str]:
        if not policies and open_without:
            return  # SNS's default policy lets the account's own services publish
        statements = [s for p in policies for s in listed(p["PolicyDocument"]["Statement"])]
        if not allows(statements, call, self._arns):
            yield f"{who}: {id_} does not let {call.principal} do {call.action}: {_why(statements)}"

    def _key_lets(
        self, who: str, principal: str, key: Any, actions: Any, context: dict[str, str]
    ) -> Iterator[str]:
        named = self._arns.fill(key)
        id_ = named if named in self._all else self._arns.find(named, "AWS::KMS::Key")
        if id_ is None:
            if named.startswith("alias/aws/") and principal.endswith(SUFFIX):
                yield f"{who}: {named} is AWS's own key, which {principal} may not use"
            elif not named.startswith(("alias/aws/", f"arn:aws:kms:{REGION}:")):
                yield f"{who}: there is no key {named}"
            return  # a key of another stack has a policy of its own
        statements = self._all[id_]["Properties"]["KeyPolicy"]["Statement"]
        for action in actions:
            # A role's own policy is not asked here: this project gives roles no right on keys.
            direct = [s for s in statements if s["Action"] != "kms:*"]
            if not allows(direct, Call(principal, action, self._arns.of(id_), context), self._arns):
                yield f"{who}: key {id_} does not let {principal} do {action}"

    def _role_may(self, who: str, function: str, actions: Any, resource: str) -> Iterator[str]:
        role = self._role_id(function)
        statements = [
            statement
            for _, policy in self._of_type("AWS::IAM::Policy")
            if role in map(self._arns.fill, policy.get("Roles", []))
            for statement in listed(policy["PolicyDocument"]["Statement"])
        ]
        for action in actions:
            if not allows(statements, Call(role, action, resource), self._arns, of_role=True):
                yield f"{who}: role {role} may not do {action} on {resource}"

    def _role_id(self, function: str) -> str:
        arn = self._arns.fill(self._all[function]["Properties"]["Role"])
        return self._arns.find(arn, "AWS::IAM::Role") or arn

    def _function(self, named: str) -> str | None:
        """The function that a name or an ARN means, an alias or a version included."""
        for id_, _ in self._of_type("AWS::Lambda::Function"):
            arn = self._arns.of(id_)
            name = self._arns.name(id_)
            if named in (arn, name) or named.startswith((f"{arn}:", f"{name}:")):
                return id_
        return None

    def _of_type(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for id_, resource in self._all.items():
            if resource["Type"] == kind:
                yield id_, resource.get("Properties", {})


def _why(statements: list[dict[str, Any]]) -> str:
    if not statements:
        return "it has no policy"
    if not any(s["Effect"] == "Allow" for s in statements):
        return "its policy has no Allow"
    return "no Allow of its policy matches, or a Deny does"


def _from(source: str) -> dict[str, str]:
    """What a call of a service brings: always over TLS, and for whom it is made."""
    return {
        "aws:sourceaccount": ACCOUNT,
        "aws:sourceowner": ACCOUNT,
        "aws:sourcearn": source,
        "aws:securetransport": "true",
    }
