"""The part of a template that MiniStack is given, with everything else written in as plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from roomcast_dev.local.template.model import ACCOUNT, API_ID, REGION, LambdaFunction

EMULATED = (
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::KMS::Key",
    "AWS::S3::Bucket",
    "AWS::SNS::Topic",
    "AWS::SQS::Queue",
    "AWS::SSM::Parameter",
    "AWS::SecretsManager::Secret",
)
"""The resource types that MiniStack is given; the local run plays the rest, or it has no meaning here."""


class Emulated:
    """Cuts MiniStack's part out of a template.

    Args:
        template: the whole template.
        api: logical id of the WebSocket API.
        functions: by logical id.
    """

    def __init__(
        self, template: Mapping[str, Any], api: str, functions: Mapping[str, LambdaFunction]
    ) -> None:
        self._template = template
        self._api = api
        self._functions = functions
        self._replaced = {k: r for k, r in template["Resources"].items() if r["Type"] not in EMULATED}

    def build(self, wanted: Iterable[Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Make the template for MiniStack.

        Args:
            wanted: values to evaluate; those that are expressions get an output each.

        Returns:
            The template, and the output key for each expression, the expression as JSON being the key.
        """
        outputs = {
            key: {"Value": output["Value"]} for key, output in self._template.get("Outputs", {}).items()
        }
        expressions: dict[str, str] = {}
        for expression in wanted:
            if isinstance(expression, (dict, list)):
                key = f"LocalExpression{len(expressions)}"
                if expressions.setdefault(json.dumps(expression, sort_keys=True), key) == key:
                    outputs[key] = {"Value": expression}
        emulated: dict[str, Any] = {
            "Resources": {
                logical_id: {k: v for k, v in resource.items() if k not in {"DependsOn", "Metadata"}}
                for logical_id, resource in self._template["Resources"].items()
                if logical_id not in self._replaced
            },
            "Outputs": outputs,
        }
        parameters = {
            k: p for k, p in self._template.get("Parameters", {}).items() if k != "BootstrapVersion"
        }
        if parameters:
            emulated["Parameters"] = parameters
        emulated |= {k: self._template[k] for k in ("Conditions", "Mappings") if k in self._template}
        return self._substitute(emulated), expressions

    def _substitute(self, node: Any) -> Any:
        """Write in what a reference to a resource that MiniStack does not get would evaluate to."""
        if isinstance(node, list):
            return [self._substitute(item) for item in node]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((key, value),) = node.items()
            if key == "Ref" and value in self._replaced:
                return self._physical(value, None)
            if key == "Fn::GetAtt":
                logical_id, attribute = value.split(".", 1) if isinstance(value, str) else value
                if logical_id in self._replaced:
                    return self._physical(logical_id, attribute)
            if key == "Fn::Sub" and isinstance(value, str):
                return {
                    key: re.sub(
                        r"\$\{([A-Za-z0-9]+)(?:\.([A-Za-z0-9.]+))?\}",
                        lambda m: self._physical(m[1], m[2]) if m[1] in self._replaced else m[0],
                        value,
                    )
                }
        return {key: self._substitute(value) for key, value in node.items()}

    def _physical(self, logical_id: str, attribute: str | None) -> str:
        """The name or, with an attribute, the ARN or URL of a resource that only exists here."""
        if logical_id == self._api:
            return (
                f"wss://{API_ID}.execute-api.{REGION}.amazonaws.com" if attribute == "ApiEndpoint" else API_ID
            )
        if logical_id in self._functions:
            function = self._functions[logical_id]
            return function.arn if attribute == "Arn" else function.name
        resource = self._replaced[logical_id]
        if resource["Type"] == "AWS::ApiGatewayV2::Stage":
            return str(resource.get("Properties", {})["StageName"])
        service = resource["Type"].split("::")[1].lower()
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{logical_id}" if attribute else logical_id
