"""Every command that the pages on deploying and operating show exists, with the options shown.

`tests/e2e/test_deploy.py` runs the ones that change something.
"""

import json
import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import typer
import yaml
from botocore import xform_name

from roomcast_dev.cli.main import app
from tests.aws_command import parse
from tests.infra.conftest import ROOT

PAGES = ("operations.md", "deploying.md")


def shown() -> list[str]:
    """The commands in blocks of shell, and those in the text."""
    found = []
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found += [line for line in block.replace("\\\n", "").splitlines() if line.strip()]
        found += [
            run.removeprefix("run: ") for run in re.findall(r"run: (?:make|npx|\.venv/bin/roomcast) .*", text)
        ]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        found += re.findall(r"`((?:make|npx cdk|roomcast|\.venv/bin/roomcast|aws) [a-z-][^`]*)`", prose)
    return sorted({re.sub(r"\s+#.*", "", command).strip() for command in found})


def steps() -> list[str]:
    """Each program of each pipe."""
    return sorted({step.strip() for command in shown() for step in command.split(" | ")})


def blocks(language: str) -> list[str]:
    """The blocks of a language on the page on deploying."""
    text = (ROOT / "docs" / "deploying.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_policies_on_the_page_allow_what_a_pipeline_calls() -> None:
    policy, trust = map(json.loads, blocks("json"))
    assume, own = policy["Statement"]
    assert assume["Action"] == "sts:AssumeRole"
    assert assume["Resource"].endswith(":role/cdk-hnb659fds-*")
    methods = {
        xform_name(action.partition(":")[2])
        for action in own["Action"]
        if action.startswith("cloudformation:")
    }
    code = (ROOT / "roomcast_dev" / "cli" / "stack_state.py").read_text()
    called = set(re.findall(r"cloudformation\.(\w+)\(", code)) - {"get_paginator"}
    assert methods == called | set(re.findall(r'get_paginator\("(\w+)"\)', code))
    condition = trust["Statement"][0]["Condition"]["StringEquals"]
    assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"


def test_the_workflow_on_the_page_deploys_what_was_synthesized_once() -> None:
    (text,) = blocks("yaml")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["dev"]["steps"] == jobs["prod"]["steps"]
    assert [jobs[name]["needs"] for name in ("dev", "prod")] == ["synthesize", "dev"]
    assert yaml.safe_load(text)["permissions"] == {"contents": "read", "id-token": "write"}
    runs = [step["run"] for step in jobs["prod"]["steps"] if "run" in step]
    assert "make deploy-assembly STAGE=${{ vars.STAGE }} YES=1" in runs
    assert not [run for run in runs if "synth" in run]


def test_there_are_commands() -> None:
    assert len(steps()) > 25


@pytest.mark.parametrize("step", steps())
def test_a_command_of_the_documentation_exists(step: str) -> None:
    words = shlex.split(step.replace("${{ vars.STAGE }}", "prod"))
    match words[0]:
        case "make":
            # -n shows what would be run; the pages are for machines that are set up.
            done = subprocess.run(
                ["make", "-n", "-o", "setup", *words[1:]],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        case "roomcast" | ".venv/bin/roomcast":
            command: Any = typer.main.get_command(app)
            rest = words[1:]
            while rest and hasattr(command, "commands"):
                assert rest[0] in command.commands, f"roomcast has no {rest[0]}"
                command = command.commands[rest.pop(0)]
            if rest:  # in the text a command may be named without what it needs
                command.make_context("roomcast", rest)
        case "npx":
            assert words[1] == "cdk"
            helped = subprocess.run(
                [ROOT / "node_modules" / ".bin" / "cdk", words[2], "--help"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for option in (word for word in words[3:] if word.startswith("-")):
                assert re.search(rf"{re.escape(option)}\b", helped), f"cdk {words[2]} has no {option}"
        case "aws":
            if len(words) > 3:
                parse(step, stdin="a new secret")
        case program:
            assert shutil.which(program), f"{program} is not a usual program"
