"""Stacks, with the operations of `cdk deploy` and of boto3's client."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from tests.infra.cloudformation.cloud import Cloud, FailedError, Physical
from tests.infra.cloudformation.templates import (
    NAMED_BY,
    Document,
    custom_name,
    importable,
    order,
    replacing,
    resolve,
)


class RefusedError(Exception):
    """AWS would refuse this call. The message is AWS's."""


@dataclass
class Stack:
    """One stack. `template` and `resources` are those of its last success, or of the operation under way."""

    name: str
    id: str
    status: str = "REVIEW_IN_PROGRESS"
    reason: str = ""
    protected: bool = False
    template: Document = field(default_factory=lambda: {"Resources": {}})
    resources: dict[str, Physical] = field(default_factory=dict)
    undeleted: set[str] = field(default_factory=set)
    deleted_at: datetime | None = None


class CloudFormation:
    """CloudFormation in one region, with as much of boto3's client as `stack_state` asks, and `deploy`.

    Args:
        cloud: the account.
        region: where.
    """

    def __init__(self, cloud: Cloud, region: str = "eu-central-1") -> None:
        self.cloud = cloud
        self.region = region
        self.stacks: list[Stack] = []

    # What `cdk deploy` does

    def deploy(
        self,
        name: str,
        template: Document,
        *,
        protect: bool = False,
        adopt: bool = False,
        fail_at: str | None = None,
        fail_rollback_at: str | None = None,
    ) -> Stack:
        """Deploy a template as the CDK command does.

        A stack whose creation failed is deleted first; then comes the change set, the termination protection,
        and only then the change set's execution.

        Args:
            name: of the stack.
            template: what to deploy.
            protect: the assembly's `terminationProtection`.
            adopt: `--import-existing-resources`.
            fail_at: a logical id whose creation or update fails.
            fail_rollback_at: a logical id that cannot be put back when an update fails.

        Raises:
            RefusedError: nothing was started.
        """
        stack = self._live(name)
        if stack is not None and stack.status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
            self.delete_stack(StackName=stack.id)
            if stack.status != "DELETE_COMPLETE":
                raise RefusedError(
                    f"Failed deleting stack {name} that had previously failed creation ({stack.status})"
                )
            stack = None
        if stack is None:
            stack = Stack(
                name, f"arn:aws:cloudformation:{self.region}:111122223333:stack/{name}/{self.cloud.number()}"
            )
            self.stacks.append(stack)
        elif not stack.status.endswith("_COMPLETE") and stack.status != "REVIEW_IN_PROGRESS":
            raise RefusedError(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
        adopted = self._adoptable(stack, template) if adopt else {}
        stack.protected = protect
        _Operation(self, stack, template, adopted, fail_at, fail_rollback_at).run()
        return stack

    def _live(self, name: str) -> Stack | None:
        found = [s for s in self.stacks if name in (s.id, s.name) and s.status != "DELETE_COMPLETE"]
        return found[0] if found else None

    def _adoptable(self, stack: Stack, template: Document) -> dict[str, Physical]:
        adopted = {}
        for id_, resource in template["Resources"].items():
            kind, keys = resource["Type"], NAMED_BY.get(resource["Type"], ())
            name = resource.get("Properties", {}).get(keys[0]) if len(keys) == 1 else None
            if id_ in stack.resources or not isinstance(name, str) or not importable(kind, keys[0]):
                continue
            existing = self.cloud.find(kind, name, self.region)
            if existing is None:
                continue
            if resource.get("DeletionPolicy") not in ("Retain", "RetainExceptOnCreate"):
                continue
            if existing.stack is not None:
                raise RefusedError(f"{name} belongs to another stack already")
            adopted[id_] = existing
        return adopted

    # boto3's client

    def describe_stacks(self, *, StackName: str) -> Any:  # noqa: N803  boto3's name
        stack = self._named(StackName)
        described = {
            "StackName": stack.name,
            "StackId": stack.id,
            "StackStatus": stack.status,
            "EnableTerminationProtection": stack.protected,
        }
        return {"Stacks": [described]}

    def update_termination_protection(self, *, StackName: str, EnableTerminationProtection: bool) -> None:  # noqa: N803
        self._named(StackName).protected = EnableTerminationProtection

    def delete_stack(self, *, StackName: str, RetainResources: list[str] | None = None) -> None:  # noqa: N803
        stack = self._named(StackName)
        if stack.protected:
            raise RefusedError(
                f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
            )
        if RetainResources and stack.status != "DELETE_FAILED":
            raise RefusedError("Invalid operation on stack: RetainResources is for stacks in DELETE_FAILED")
        failed = set()
        for id_ in reversed(order(stack.template)):
            physical = stack.resources.get(id_)
            if physical is None:
                continue
            policy = stack.template["Resources"][id_].get("DeletionPolicy", "Delete")
            try:
                if policy == "Delete" and id_ not in (RetainResources or ()):
                    self.cloud.delete(physical)
                else:
                    physical.stack = None
                del stack.resources[id_]
            except FailedError as error:
                failed.add(id_)
                stack.reason = str(error)
        stack.undeleted = failed
        stack.status = "DELETE_FAILED" if failed else "DELETE_COMPLETE"
        stack.deleted_at = None if failed else self.cloud.now

    def continue_update_rollback(self, *, StackName: str) -> None:  # noqa: N803
        stack = self._named(StackName)
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise RefusedError(f"Stack:{stack.id} is in {stack.status} state")
        stack.status = "UPDATE_ROLLBACK_COMPLETE"

    def get_paginator(self, operation: str) -> "_Paginator":
        return _Paginator(self, operation)

    def _named(self, name: str) -> Stack:
        stack = self._live(name) or next((s for s in self.stacks if s.id == name), None)
        if stack is None:
            message = f"Stack with id {name} does not exist"
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "DescribeStacks")
        return stack


class _Paginator:
    def __init__(self, cloudformation: CloudFormation, operation: str) -> None:
        self._of = cloudformation
        self._operation = operation

    def paginate(self, **request: Any) -> Iterator[Any]:
        if self._operation == "list_stacks":
            gone = [s for s in self._of.stacks if s.status in request["StackStatusFilter"]]
            yield {"StackSummaries": [{"StackName": s.name, "DeletionTime": s.deleted_at} for s in gone]}
            return
        assert self._operation == "list_stack_resources"
        stack = self._of._named(request["StackName"])
        status = {
            id_: "DELETE_FAILED" if id_ in stack.undeleted else "CREATE_COMPLETE" for id_ in stack.resources
        }
        yield {
            "StackResourceSummaries": [
                {"LogicalResourceId": id_, "ResourceStatus": s} for id_, s in status.items()
            ]
        }


class _Operation:
    """One creation or update, with its rollback or its clean-up."""

    def __init__(
        self,
        of: CloudFormation,
        stack: Stack,
        template: Document,
        adopted: dict[str, Physical],
        fail_at: str | None,
        fail_rollback_at: str | None,
    ) -> None:
        self._cloud, self._region = of.cloud, of.region
        self._stack, self._template, self._adopted = stack, template, adopted
        self._fail_at, self._fail_rollback_at = fail_at, fail_rollback_at
        self._before = dict(stack.resources)
        self._changed: list[tuple[str, Physical, dict[str, Any]]] = []
        self._created: list[tuple[str, Physical]] = []

    def run(self) -> None:
        stack, creating = self._stack, self._stack.status == "REVIEW_IN_PROGRESS"
        old = stack.template
        try:
            for id_ in order(self._template):
                self._one(id_, self._template["Resources"][id_])
        except FailedError as error:
            stack.reason = str(error)
            if creating:
                self._roll_back_creation()
            else:
                self._roll_back_update()
            return
        stack.template = self._template
        self._clean_up(old)
        stack.status = "CREATE_COMPLETE" if creating else "UPDATE_COMPLETE"

    def _one(self, id_: str, resource: dict[str, Any]) -> None:
        kind, stack = resource["Type"], self._stack
        properties = resolve(resource.get("Properties", {}), stack.resources, self._region)
        existing = stack.resources.get(id_)
        if id_ in self._adopted:
            adopted = self._adopted[id_]
            adopted.stack = stack.id
            adopted.drift = {
                k for k in properties | adopted.properties if properties.get(k) != adopted.properties.get(k)
            }
            stack.resources[id_] = adopted
            return
        if id_ == self._fail_at and (existing is None or existing.properties != properties):
            raise FailedError(f"{id_} fails, as the test asked")
        if existing is not None and existing.kind == kind:
            changes = {
                k for k in properties | existing.properties if properties.get(k) != existing.properties.get(k)
            }
            if not changes:
                return
            if not changes & replacing(kind):
                self._cloud.check(kind, self._region, properties)
                self._changed.append((id_, existing, existing.properties))
                existing.properties = properties
                self._cloud.act(self._region)
                return
            if custom_name(kind, properties) is not None and custom_name(kind, properties) == existing.name:
                raise FailedError(
                    "CloudFormation cannot update a stack when a custom-named resource requires replacing."
                    f" Rename {existing.name} and update the stack again."
                )
        name = custom_name(kind, properties) or _generated(kind, stack.name, id_, self._cloud.number())
        made = self._cloud.create(kind, name, self._region, properties, stack.id)
        self._created.append((id_, made))
        stack.resources[id_] = made

    def _roll_back_creation(self) -> None:
        failed = self._undo_creations()
        for physical in self._adopted.values():
            physical.stack = None
        self._stack.template = self._template
        self._stack.resources = failed
        self._stack.undeleted = set(failed)
        self._stack.status = "ROLLBACK_FAILED" if failed else "ROLLBACK_COMPLETE"

    def _roll_back_update(self) -> None:
        stack = self._stack
        stack.status = "UPDATE_ROLLBACK_COMPLETE"
        for id_, physical, properties in reversed(self._changed):
            if id_ == self._fail_rollback_at:
                stack.status = "UPDATE_ROLLBACK_FAILED"
            physical.properties = properties
        self._undo_creations()
        for id_, physical in self._adopted.items():
            if id_ not in self._before:
                physical.stack = None
        stack.resources = self._before
        self._cloud.act(self._region)

    def _undo_creations(self) -> dict[str, Physical]:
        failed = {}
        for id_, physical in reversed(self._created):
            if self._template["Resources"][id_].get("DeletionPolicy") == "Retain":
                physical.stack = None
                continue
            try:
                self._cloud.delete(physical)
            except FailedError:
                failed[id_] = physical
        return failed

    def _clean_up(self, old: Document) -> None:
        """Delete what the update replaced or took out; what cannot be deleted stays, without an error."""
        for id_ in reversed(order(old)):
            before = self._before.get(id_)
            replaced = id_ in self._template["Resources"]
            if before is None or (replaced and self._stack.resources[id_] is before):
                continue
            policy = old["Resources"][id_].get(
                "UpdateReplacePolicy" if replaced else "DeletionPolicy", "Delete"
            )
            if not replaced:
                del self._stack.resources[id_]
            before.stack = None
            if policy == "Delete":
                try:
                    self._cloud.delete(before)
                except FailedError:
                    continue


def _generated(kind: str, stack: str, id_: str, number: int) -> str:
    """A name as CloudFormation, or the service, makes one up: never the same twice."""
    match kind:
        case "AWS::KMS::Key":
            return f"{number:08x}-3b55-4c62-9a57-1f2e3d4c5b6a"
        case "AWS::SecretsManager::Secret":
            return f"{id_}-{number}"
    return f"{stack}-{id_}-{number}"
