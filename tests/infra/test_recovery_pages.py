"""The page on failed deployments, walked: the simulator carries out its commands as they are written."""

import json
import re
import shlex
import subprocess
from typing import Any

import pytest

from roomcast_dev.cli import stack_state
from tests.infra.cloudformation import Cloud, CloudFormation, RefusedError, order
from tests.infra.conftest import ROOT
from tests.infra.test_deployments import HERE, NAME, TABLES, Synthesized, make_deploy, unblock
from tests.infra.test_deployments import cloud as cloud
from tests.infra.test_deployments import here as here
from tests.infra.test_deployments import synthesized as synthesized

pytestmark = pytest.mark.timeout(300)

PAGE = (ROOT / "docs" / "deploying.md").read_text()


def section(heading: str) -> str:
    """The text under a heading, up to the next one of its rank or a higher one."""
    rank = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(rank)}}} |\Z)", PAGE, re.M | re.S)
    assert found, f"docs/deploying.md has no {heading!r}"
    return found[1]


def blocks(heading: str) -> list[list[str]]:
    """The commands of each shell block of a section."""
    found = re.findall(r"^```sh\n(.*?)^```", section(heading), re.M | re.S)
    return [block.splitlines() for block in found]


class Shell:
    """Carries out the commands that the pages name. One that it does not know fails the test."""

    def __init__(self, at: CloudFormation, template: Any) -> None:
        self.at = at
        self.template = template

    def run(self, commands: list[str]) -> list[str]:
        """Run them; returns what they list."""
        return [line for command in commands for line in self._one(shlex.split(command, comments=True))]

    def _one(self, words: list[str]) -> list[str]:
        command = [word for word in words if not word.startswith("-")]
        match command:
            case [".venv/bin/roomcast", "unblock", "prod"]:
                unblock(self.at)
            case ["make", "deploy", "STAGE=prod"]:
                make_deploy(self.at, self.template)
            case ["make", "destroy", "STAGE=prod"]:
                self.at.delete_stack(StackName=NAME)
            case ["aws", "cloudformation", "update-termination-protection", name]:
                assert "--no-enable-termination-protection" in words
                self.at.update_termination_protection(StackName=name, EnableTerminationProtection=False)
            case ["aws", "cloudformation", "delete-stack", name]:
                self.at.delete_stack(StackName=name)
            case ["aws", "dynamodb", "update-table", name]:
                assert "--no-deletion-protection-enabled" in words
                self._table(name).properties["DeletionProtectionEnabled"] = False
            case ["aws", "dynamodb", "delete-table", name]:
                self.at.cloud.delete(self._table(name))
            case ["aws", "sqs", "list-queues", prefix]:
                return self._named("AWS::SQS::Queue", prefix)
            case ["aws", "logs", "describe-log-groups", prefix]:
                return self._named("AWS::Logs::LogGroup", prefix)
            case ["aws", "secretsmanager", "list-secrets", "Key=description,Values=Signs"]:
                secrets = (p for p in self.at.cloud.everything if p.kind == "AWS::SecretsManager::Secret")
                return [p.name for p in secrets if p.properties["Description"].startswith("Signs ")]
            case _:
                raise AssertionError(f"the walk does not know {words}")
        return []

    def _table(self, name: str) -> Any:
        table = self.at.cloud.find("AWS::DynamoDB::Table", name, self.at.region)
        assert table is not None, f"there is no table {name}"
        return table

    def _named(self, kind: str, prefix: str) -> list[str]:
        return [p.name for p in self.at.cloud.everything if p.kind == kind and p.name.startswith(prefix)]


@pytest.fixture
def shell(here: CloudFormation, synthesized: Synthesized) -> Shell:
    return Shell(here, synthesized())


def fail_first(shell: Shell) -> None:
    stack = make_deploy(shell.at, shell.template, fail_at=order(shell.template)[-1])
    assert (stack.status, stack.protected) == ("ROLLBACK_COMPLETE", True)


def test_the_first_deployment_failed(shell: Shell, cloud: Cloud) -> None:
    with_unblock, _, _ = blocks("### The first deployment failed")
    fail_first(shell)
    with pytest.raises(RefusedError, match="TerminationProtection"):
        shell.at.deploy(NAME, shell.template, protect=True, adopt=True)
    shell.run(with_unblock)
    assert shell.at.deploy(NAME, shell.template, protect=True, adopt=True).status == "CREATE_COMPLETE"


def test_the_first_deployment_failed_and_is_cleared_by_hand(shell: Shell, cloud: Cloud) -> None:
    _, by_hand, without_a_table = blocks("### The first deployment failed")
    fail_first(shell)
    shell.run(by_hand)
    assert sorted(p.name for p in cloud.everything) == TABLES
    shell.run(without_a_table)
    assert [p.name for p in cloud.everything] == TABLES[:2]
    assert make_deploy(shell.at, shell.template).status == "CREATE_COMPLETE"


def test_a_stage_that_keeps_data_is_destroyed(shell: Shell, cloud: Cloud) -> None:
    make_deploy(shell.at, shell.template)
    with pytest.raises(RefusedError, match="TerminationProtection"):
        shell.run(["make destroy STAGE=prod"])
    (commands,) = blocks("### A stage that keeps data is to be destroyed")
    shell.run(commands)
    assert stack_state.find(shell.at, NAME) is None  # type: ignore[arg-type]
    assert sorted(p.name for p in cloud.everything if p.kind == "AWS::DynamoDB::Table") == TABLES


@pytest.mark.parametrize("customer_key", [False, True])
def test_a_destroyed_stage_is_deployed_again(
    shell: Shell, cloud: Cloud, synthesized: Synthesized, *, customer_key: bool
) -> None:
    settings: dict[str, Any] = {"customer_key": True} if customer_key else {}
    make_deploy(shell.at, synthesized(**settings))
    shell.run(blocks("### A stage that keeps data is to be destroyed")[0])
    left = {p.name for p in cloud.orphans()}

    page = section("### A destroyed stage is deployed again")
    (secret,) = [p.name for p in cloud.orphans("AWS::SecretsManager::Secret")]
    named = {"jwt_secret_name": secret}
    for key in cloud.orphans("AWS::KMS::Key"):
        named["customer_key_arn"] = f"arn:aws:kms:{HERE}:111122223333:key/{key.name}"
    assert set(re.findall(r"`(jwt_secret_name|customer_key_arn)`", page)) == {
        "jwt_secret_name",
        "customer_key_arn",
    }

    again = make_deploy(shell.at, synthesized(**settings, **named))
    assert (again.status, again.reason) == ("CREATE_COMPLETE", "")
    assert len([p for p in cloud.everything if p.kind == "AWS::SecretsManager::Secret"]) == 1
    tables = [p for p in again.resources.values() if p.kind == "AWS::DynamoDB::Table"]
    assert sorted(p.name for p in tables) == TABLES
    assert all(p.drift == set() for p in tables)

    (commands,) = blocks("### A destroyed stage is deployed again")
    found = set(shell.run(commands))
    stacks_own = {p.name for p in again.resources.values()}
    # What the page says how to find is all that is left over, except for the key that is in use again.
    keys = {p.name for p in cloud.everything if p.kind == "AWS::KMS::Key"}
    assert left - stacks_own - keys <= found


def test_an_update_failed_and_could_not_be_undone(shell: Shell, synthesized: Synthesized) -> None:
    make_deploy(shell.at, shell.template)
    after = synthesized(memory_mb=1024)
    functions = [id_ for id_ in order(after) if after["Resources"][id_]["Type"] == "AWS::Lambda::Function"]
    changed = [id_ for id_ in functions if after["Resources"][id_] != shell.template["Resources"][id_]]
    stuck = make_deploy(shell.at, after, fail_at=changed[-1], fail_rollback_at=changed[0])
    assert stuck.status == "UPDATE_ROLLBACK_FAILED"
    (command,) = re.findall(r"`(roomcast unblock)`", section("### An update failed and could not be undone"))
    shell.run([f".venv/bin/{command} --stage prod"])
    assert stuck.status == "UPDATE_ROLLBACK_COMPLETE"
    assert make_deploy(shell.at, after).status == "UPDATE_COMPLETE"


def test_every_command_of_the_page_is_walked(shell: Shell) -> None:
    """A command that is new on the page must be taught to the walk."""
    commands = [command for block in blocks("## When a deployment fails") for command in block]
    assert len(commands) >= 8
    for command in commands:
        with_stack = Shell(CloudFormation(Cloud(), HERE), shell.template)
        with_stack.at.cloud.gateway_role.add(HERE)
        make_deploy(with_stack.at, shell.template)
        with_stack.at.update_termination_protection(StackName=NAME, EnableTerminationProtection=False)
        for table in TABLES:
            found = with_stack.at.cloud.find("AWS::DynamoDB::Table", table, HERE)
            assert found is not None
            found.properties["DeletionProtectionEnabled"] = False
        with_stack.run([command])


def test_a_pipeline_may_do_all_that_unblock_does() -> None:
    """The page's policy for a pipeline: unblock calls CloudFormation with the pipeline's own rights."""
    source = (ROOT / "roomcast_dev" / "cli" / "stack_state.py").read_text()
    called = set(re.findall(r"\bcloudformation\.([a-z_]+)\(", source)) - {"get_paginator"}
    called |= set(re.findall(r'get_paginator\("([a-z_]+)"\)', source))
    actions = {f"cloudformation:{''.join(word.title() for word in name.split('_'))}" for name in called}
    policies = [
        json.loads(text)
        for text in re.findall(r"^```json\n(.*?)^```", section("## Deploy from a pipeline"), re.M | re.S)
    ]
    allowed = {
        action
        for policy in policies
        for statement in policy["Statement"]
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    assert len(actions) >= 6
    assert actions - allowed == set()


def dry_run(target: str, *variables: str) -> str:
    """What make would run, without its setup."""
    command = ["make", "--dry-run", "-o", "setup", target, "STAGE=prod", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def test_make_deploy_is_what_the_simulator_plays() -> None:
    """The order matters: the stack is cleared before CDK looks at it, and existing tables are adopted."""
    assembly = dry_run("deploy-assembly", "YES=1")
    deploys = assembly.index("cdk deploy ")
    assert assembly.index("roomcast unblock --stage prod --yes") < deploys
    assert "--import-existing-resources" in assembly[deploys:]
    whole = dry_run("deploy")
    assert whole.index("roomcast preflight --stage prod") < whole.index("cdk synth")
