"""Reads a synthesized CDK assembly into a `Template`, the configuration of the local run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roomcast_dev.local.errors import TemplateError
from roomcast_dev.local.template.emulated import Emulated
from roomcast_dev.local.template.model import (
    Authorizer,
    LambdaFunction,
    Mock,
    QueueMapping,
    Route,
    Template,
    Throttle,
)
from roomcast_dev.local.template.references import of_type, reference, references

APPLICATION = "roomcast:application"
"""The key in a function's metadata (`roomcast_cdk/function.py` writes it)."""


def load(assembly: Path, stack: str | None = None) -> Template:
    """Read the stack with the WebSocket API out of a synthesized assembly (a `cdk.out` folder).

    Args:
        stack: its name, where several stacks have a WebSocket API.

    Raises:
        TemplateError: no or several WebSocket APIs, or a part of it that cannot be run here.
    """
    manifest = json.loads((assembly / "manifest.json").read_text())
    found = []
    for name, artifact in manifest["artifacts"].items():
        if artifact["type"] != "aws:cloudformation:stack":
            continue
        template = json.loads((assembly / artifact["properties"]["templateFile"]).read_text())
        stack_name = artifact["properties"].get("stackName", name)
        if stack not in (None, stack_name):
            continue
        apis = [
            logical_id
            for logical_id, api in of_type(template, "AWS::ApiGatewayV2::Api")
            if api["Properties"].get("ProtocolType") == "WEBSOCKET"
        ]
        found += [(stack_name, name, template, api) for api in apis]
    if len(found) != 1:
        names = ", ".join(sorted(name for name, _, _, _ in found)) or "none"
        where = f"stack {stack}" if stack else "the CDK app"
        raise TemplateError(f"the local run needs exactly one WebSocket API, {where} has: {names}")
    stack_name, artifact_name, template, api = found[0]
    assets_file = assembly / f"{artifact_name}.assets.json"
    assets = json.loads(assets_file.read_text())["files"] if assets_file.exists() else {}
    return _Reader(assembly, stack_name, template, api, assets).read()


class _Reader:
    """Reads one template; the pieces refer to one another by logical id."""

    def __init__(
        self, assembly: Path, stack_name: str, template: dict[str, Any], api: str, assets: dict[str, Any]
    ) -> None:
        self.assembly = assembly
        self.stack_name = stack_name
        self.template = template
        self.api = api
        self.assets = assets
        self.warnings: list[str] = []

    def read(self) -> Template:
        stage = next(
            (s["Properties"] for _, s in self._api_parts("AWS::ApiGatewayV2::Stage")),
            None,
        )
        if stage is None:
            raise TemplateError(f"the WebSocket API {self.api} has no stage")
        settings = stage.get("DefaultRouteSettings") or {}
        rate, burst = settings.get("ThrottlingRateLimit"), settings.get("ThrottlingBurstLimit")
        if settings.get("DetailedMetricsEnabled") and (rate is None or burst is None):
            self.warnings.append(
                "detailed metrics without throttles: AWS takes the missing throttle as 0 and refuses all"
            )
        functions = {
            logical_id: self._function(logical_id, resource)
            for logical_id, resource in of_type(self.template, "AWS::Lambda::Function")
        }
        routes = {route.key: route for route in self._routes(functions)}
        mappings = tuple(self._mappings(functions))
        wanted = [value for function in functions.values() for value in function.environment.values()]
        wanted += [mapping.queue_arn for mapping in mappings]
        emulated, expressions = Emulated(self.template, self.api, functions).build(wanted)
        return Template(
            stack_name=self.stack_name,
            stage=stage["StageName"],
            selection_expression=self.template["Resources"][self.api]["Properties"].get(
                "RouteSelectionExpression", "$request.body.action"
            ),
            routes=routes,
            functions={k: f for k, f in functions.items() if self._used(k, routes, mappings)},
            mappings=mappings,
            throttle=Throttle(float(rate), int(burst)) if rate is not None and burst is not None else None,
            warnings=tuple(self.warnings),
            emulated=emulated,
            expressions=expressions,
        )

    def _api_parts(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for logical_id, resource in of_type(self.template, kind):
            if resource["Properties"].get("ApiId") == {"Ref": self.api}:
                yield logical_id, resource

    @staticmethod
    def _used(logical_id: str, routes: Mapping[str, Route], mappings: tuple[QueueMapping, ...]) -> bool:
        return any(
            route.target == logical_id
            or (route.authorizer is not None and route.authorizer.function == logical_id)
            for route in routes.values()
        ) or any(mapping.function == logical_id for mapping in mappings)

    # Functions

    def _function(self, logical_id: str, resource: dict[str, Any]) -> LambdaFunction:
        properties = resource["Properties"]
        code = properties.get("Code", {})
        name = properties.get("FunctionName")
        return LambdaFunction(
            logical_id=logical_id,
            name=name if isinstance(name, str) else logical_id,
            handler=properties.get("Handler", ""),
            code=(*self._asset(code), *self._layers(properties.get("Layers", []))),
            inline=code.get("ZipFile"),
            timeout=float(properties.get("Timeout", 3)),
            memory=int(properties.get("MemorySize", 128)),
            environment=(properties.get("Environment") or {}).get("Variables", {}),
            concurrency=properties.get("ReservedConcurrentExecutions"),
            application=(resource.get("Metadata") or {}).get(APPLICATION),
        )

    def _asset(self, code: dict[str, Any]) -> tuple[Path, ...]:
        key = code.get("S3Key")
        if not isinstance(key, str):
            return ()
        file = self.assets.get(key.rsplit("/", 1)[-1].removesuffix(".zip"))
        return (self.assembly / file["source"]["path"],) if file else ()

    def _layers(self, layers: list[Any]) -> tuple[Path, ...]:
        folders: list[Path] = []
        for layer in layers:
            resource = self.template["Resources"].get(reference(layer) or "")
            if resource is None:
                self.warnings.append(f"a layer that is not in the template is ignored: {json.dumps(layer)}")
            else:
                folders += [f / "python" for f in self._asset(resource["Properties"].get("Content", {}))]
        return tuple(folders)

    def _function_of(self, uri: Any, functions: Mapping[str, LambdaFunction], what: str) -> str:
        named = [self._behind_alias(logical_id) for logical_id in references(uri)]
        found = [logical_id for logical_id in named if logical_id in functions]
        if len(found) != 1:
            raise TemplateError(f"{what}: its function is not in this template")
        runtime = self.template["Resources"][found[0]]["Properties"].get("Runtime", "a container image")
        if not str(runtime).startswith("python"):
            raise TemplateError(f"{what}: its function runs on {runtime}; only Python runs here")
        return found[0]

    def _behind_alias(self, logical_id: str) -> str:
        """The function that an alias or a version is of; here there is only its newest code."""
        resource = self.template["Resources"].get(logical_id, {})
        if resource.get("Type") not in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
            return logical_id
        return reference(resource["Properties"]["FunctionName"]) or logical_id

    # Routes

    def _routes(self, functions: Mapping[str, LambdaFunction]) -> Iterator[Route]:
        responding = {
            reference(resource["Properties"]["RouteId"])
            for _, resource in self._api_parts("AWS::ApiGatewayV2::RouteResponse")
        }
        for logical_id, resource in self._api_parts("AWS::ApiGatewayV2::Route"):
            properties = resource["Properties"]
            key = properties["RouteKey"]
            integration_id = next(iter(references(properties.get("Target"))), None)
            if integration_id is None:
                raise TemplateError(f"route {key}: no integration")
            integration = self.template["Resources"][integration_id]["Properties"]
            kind = integration["IntegrationType"]
            target: str | Mock
            if kind == "MOCK":
                target = self._mock(integration_id, integration)
            elif kind == "AWS_PROXY":
                target = self._function_of(integration["IntegrationUri"], functions, f"route {key}")
            else:
                raise TemplateError(f"route {key}: {kind} integrations do not run here")
            yield Route(
                key=key,
                target=target,
                timeout=integration.get("TimeoutInMillis", 29_000) / 1000,
                authorizer=self._authorizer(key, properties, functions),
                responds=logical_id in responding,
            )

    def _mock(self, integration_id: str, integration: dict[str, Any]) -> Mock:
        templates = integration.get("RequestTemplates") or {}
        selected = templates.get(integration.get("TemplateSelectionExpression"), '{"statusCode": 200}')
        try:
            status = int(json.loads(selected)["statusCode"])
        except (ValueError, KeyError, TypeError):
            status = 500  # as API Gateway: a mock whose request template gives no status is an error
        responses = [
            resource["Properties"].get("ResponseTemplates") or {}
            for _, resource in self._api_parts("AWS::ApiGatewayV2::IntegrationResponse")
            if reference(resource["Properties"]["IntegrationId"]) == integration_id
        ]
        texts = [text for templates in responses for text in templates.values()]
        return Mock(status, texts[0] if texts else None)

    def _authorizer(
        self, key: str, properties: dict[str, Any], functions: Mapping[str, LambdaFunction]
    ) -> Authorizer | None:
        kind = properties.get("AuthorizationType", "NONE")
        if kind == "AWS_IAM":
            self.warnings.append(f"route {key}: AWS_IAM authorization is not checked here")
        if kind != "CUSTOM":
            return None
        authorizer = self.template["Resources"][reference(properties["AuthorizerId"])]["Properties"]
        return Authorizer(
            function=self._function_of(authorizer["AuthorizerUri"], functions, f"authorizer of {key}"),
            identity_sources=tuple(authorizer.get("IdentitySource") or ()),
        )

    # Queues

    def _mappings(self, functions: Mapping[str, LambdaFunction]) -> Iterator[QueueMapping]:
        for logical_id, resource in of_type(self.template, "AWS::Lambda::EventSourceMapping"):
            properties = resource["Properties"]
            sources = [self.template["Resources"].get(r) for r in references(properties["EventSourceArn"])]
            if not any(source and source["Type"] == "AWS::SQS::Queue" for source in sources):
                self.warnings.append(
                    f"event source {logical_id} is not an SQS queue of this template: left out"
                )
                continue
            yield QueueMapping(
                queue_arn=properties["EventSourceArn"],
                function=self._function_of(
                    properties["FunctionName"], functions, f"event source {logical_id}"
                ),
                batch_size=int(properties.get("BatchSize", 10)),
                window=float(properties.get("MaximumBatchingWindowInSeconds", 0)),
                reports_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
                maximum_concurrency=(properties.get("ScalingConfig") or {}).get("MaximumConcurrency"),
            )
