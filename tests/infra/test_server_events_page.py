"""The rule of docs/server-events.md gets what a stage puts on the bus; a stage with it off has none of it."""

import json
import re
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from aws_cdk.assertions import Match, Template

from roomcast.settings import ServerEventRules
from tests.infra.conftest import ROOT
from tests.infra.resources import Resources

PAGE = (ROOT / "docs" / "server-events.md").read_text()


def test_the_rule_of_the_page_gets_what_the_stage_puts_on_the_bus(resources: dict[str, Resources]) -> None:
    stack = cdk.Stack(cdk.App(), "follower")
    function = lambda_.Function(
        stack,
        "Function",
        runtime=lambda_.Runtime.PYTHON_3_13,
        handler="index.handler",
        code=lambda_.Code.from_inline("def handler(event, context): pass"),
    )
    [code] = re.findall(r"```python\n(visits = .*?)```", PAGE, re.DOTALL)
    known: dict[str, Any] = {"self": stack, "function": function, "Duration": cdk.Duration}
    exec(code, known | {"events": events, "targets": targets, "sqs": sqs})
    template = Template.from_stack(stack)
    rule = {
        "EventPattern": {
            "source": ["roomcast.landinghub.prod"],
            "detail-type": ["connected", "disconnected", "joined", "left"],
        },
        "Targets": [Match.object_like({"DeadLetterConfig": Match.any_value()})],
    }
    template.has_resource_properties("AWS::Events::Rule", rule)
    told = resources["events"].environment("Connect")["WEBSOCKET_SERVER_EVENTS"]
    assert ServerEventRules.parse("", told).source == "roomcast.landinghub.events"


def test_the_settings_of_the_page_are_good(resources: dict[str, Resources]) -> None:
    [text] = re.findall(r'```json\n("prod": .*?)```', PAGE, re.DOTALL)
    settings = json.loads(f"{{{text}}}")["prod"]
    for function in ("Connect", "Disconnect", "Default", "Fanout"):
        told = resources["events"].environment(function)["WEBSOCKET_SERVER_EVENTS"]
        rules = ServerEventRules.parse("", told)
        assert (rules.kinds, rules.bus) == (frozenset(settings["server_events"]), "audit")
    assert "WEBSOCKET_SERVER_EVENTS" not in resources["events"].environment("Count")
    for stage in ("local", "dev", "prod"):
        document = json.dumps(resources[stage].document)
        assert not re.search("WEBSOCKET_SERVER_EVENTS|PutEvents|ServerEvents", document)
