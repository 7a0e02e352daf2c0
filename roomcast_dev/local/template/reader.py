"""What a synthesized CDK assembly says about its WebSocket API: the configuration of the local run.

Nothing about routes, functions, queues or tables is written a second time: everything that the local run
plays comes from the CloudFormation template that `cdk deploy` would send to AWS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roomcast_dev.local.errors import TemplateError

API_ID = "local0api0"
"""What the API's logical id evaluates to; execute-api URLs that carry it become local ones."""
REGION = "us-east-1"
ACCOUNT = "000000000000"

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

_EXECUTE_API = re.compile(rf"(wss|https)://{API_ID}\.execute-api\.{REGION}\.amazonaws\.com")


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function: what its workers need to know."""

    logical_id: str
    name: str
    handler: str
    code: tuple[Path, ...]
    """Folders or zip files for the worker's import path, the function's own code first."""
    inline: str | None
    """Code written in the template itself (`Code.from_inline`)."""
    timeout: float
    """Seconds an event may take."""
    memory: int
    """Megabytes; shown, not enforced."""
    environment: Mapping[str, Any]
    """Values may be CloudFormation expressions."""
    concurrency: int | None
    """Reserved concurrent executions."""

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"


@dataclass(frozen=True, slots=True)
class Mock:
    """A MOCK integration: API Gateway answers by itself."""

    status: int
    response: str | None
    """The response template that is sent back over a route response."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    """A Lambda (REQUEST) authorizer of `$connect`."""

    function: str
    identity_sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One route key and what serves it."""

    key: str
    target: str | Mock
    """A function's logical id, or a mock."""
    timeout: float
    """Seconds until the gateway gives up on the integration."""
    authorizer: Authorizer | None
    responds: bool
    """Whether the function's body goes back to the sender (a route response)."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """Requests a second and the burst above them."""

    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class QueueMapping:
    """An SQS queue whose messages a function gets."""

    queue_arn: Any
    function: str
    batch_size: int
    window: float
    """Seconds to gather a batch."""
    reports_failures: bool
    maximum_concurrency: int | None


@dataclass(frozen=True, slots=True)
class Template:
    """A stack with one WebSocket API, as the local run needs it."""

    stack_name: str
    stage: str
    selection_expression: str
    routes: Mapping[str, Route]
    functions: Mapping[str, Function]
    """By logical id."""
    mappings: tuple[QueueMapping, ...]
    throttle: Throttle | None
    warnings: tuple[str, ...]
    """What the template asks for and the local run does not do."""
    emulated: Mapping[str, Any] = field(repr=False)
    """The template for MiniStack: data resources, and one output for each expression to evaluate."""
    expressions: Mapping[str, str] = field(repr=False)
    """Output key for each expression, the expression as JSON being the key."""

    def value(self, expression: Any, outputs: Mapping[str, str], *, local_url: str) -> str:
        """Evaluate `expression` from MiniStack's stack `outputs`; execute-api URLs become `local_url`'s.

        Args:
            local_url: host and port, as in `localhost:3001`.
        """
        if isinstance(expression, str):
            text = expression
        elif isinstance(expression, (int, float, bool)):
            return json.dumps(expression)
        else:
            text = outputs[self.expressions[json.dumps(expression, sort_keys=True)]]
        return _EXECUTE_API.sub(lambda match: f"{'ws' if match[1] == 'wss' else 'http'}://{local_url}", text)


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
            for logical_id, api in _of_type(template, "AWS::ApiGatewayV2::Api")
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


def _of_type(template: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for logical_id, resource in template.get("Resources", {}).items():
        if resource["Type"] == kind:
            yield logical_id, {"Properties": {}, **resource}


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
            logical_id: self._function(logical_id, resource["Properties"])
            for logical_id, resource in _of_type(self.template, "AWS::Lambda::Function")
        }
        routes = {route.key: route for route in self._routes(functions)}
        mappings = tuple(self._mappings(functions))
        emulated, expressions = self._emulated(functions, mappings)
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
        for logical_id, resource in _of_type(self.template, kind):
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

    def _function(self, logical_id: str, properties: dict[str, Any]) -> Function:
        code = properties.get("Code", {})
        name = properties.get("FunctionName")
        return Function(
            logical_id=logical_id,
            name=name if isinstance(name, str) else logical_id,
            handler=properties.get("Handler", ""),
            code=(*self._asset(code), *self._layers(properties.get("Layers", []))),
            inline=code.get("ZipFile"),
            timeout=float(properties.get("Timeout", 3)),
            memory=int(properties.get("MemorySize", 128)),
            environment=(properties.get("Environment") or {}).get("Variables", {}),
            concurrency=properties.get("ReservedConcurrentExecutions"),
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
            resource = self.template["Resources"].get(_reference(layer) or "")
            if resource is None:
                self.warnings.append(f"a layer that is not in the template is left out: {json.dumps(layer)}")
            else:
                folders += [f / "python" for f in self._asset(resource["Properties"].get("Content", {}))]
        return tuple(folders)

    def _function_of(self, uri: Any, functions: Mapping[str, Function], what: str) -> str:
        found = [logical_id for logical_id in _references(uri) if logical_id in functions]
        if len(found) != 1:
            raise TemplateError(f"{what}: its function is not in this template")
        runtime = self.template["Resources"][found[0]]["Properties"].get("Runtime", "a container image")
        if not str(runtime).startswith("python"):
            raise TemplateError(f"{what}: its function runs on {runtime}; only Python runs here")
        return found[0]

    # Routes

    def _routes(self, functions: Mapping[str, Function]) -> Iterator[Route]:
        responding = {
            _reference(resource["Properties"]["RouteId"])
            for _, resource in self._api_parts("AWS::ApiGatewayV2::RouteResponse")
        }
        for logical_id, resource in self._api_parts("AWS::ApiGatewayV2::Route"):
            properties = resource["Properties"]
            key = properties["RouteKey"]
            integration_id = next(iter(_references(properties.get("Target"))), None)
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
            if _reference(resource["Properties"]["IntegrationId"]) == integration_id
        ]
        texts = [text for templates in responses for text in templates.values()]
        return Mock(status, texts[0] if texts else None)

    def _authorizer(
        self, key: str, properties: dict[str, Any], functions: Mapping[str, Function]
    ) -> Authorizer | None:
        kind = properties.get("AuthorizationType", "NONE")
        if kind == "AWS_IAM":
            self.warnings.append(f"route {key}: AWS_IAM authorization is not checked here")
        if kind != "CUSTOM":
            return None
        authorizer = self.template["Resources"][_reference(properties["AuthorizerId"])]["Properties"]
        return Authorizer(
            function=self._function_of(authorizer["AuthorizerUri"], functions, f"authorizer of {key}"),
            identity_sources=tuple(authorizer.get("IdentitySource") or ()),
        )

    # Queues

    def _mappings(self, functions: Mapping[str, Function]) -> Iterator[QueueMapping]:
        for logical_id, resource in _of_type(self.template, "AWS::Lambda::EventSourceMapping"):
            properties = resource["Properties"]
            sources = [self.template["Resources"].get(r) for r in _references(properties["EventSourceArn"])]
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

    # MiniStack's part

    def _emulated(
        self, functions: Mapping[str, Function], mappings: tuple[QueueMapping, ...]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        resources = self.template["Resources"]
        kept = {k: r for k, r in resources.items() if r["Type"] in EMULATED}
        replaced = {k: r for k, r in resources.items() if k not in kept}
        outputs = {
            key: {"Value": output["Value"]} for key, output in self.template.get("Outputs", {}).items()
        }
        wanted = [value for function in functions.values() for value in function.environment.values()]
        wanted += [mapping.queue_arn for mapping in mappings]
        expressions: dict[str, str] = {}
        for expression in wanted:
            if isinstance(expression, (dict, list)):
                key = f"LocalExpression{len(expressions)}"
                if expressions.setdefault(json.dumps(expression, sort_keys=True), key) == key:
                    outputs[key] = {"Value": expression}
        parameters = {k: p for k, p in self.template.get("Parameters", {}).items() if k != "BootstrapVersion"}
        emulated: dict[str, Any] = {
            "Resources": {
                logical_id: {
                    **{k: v for k, v in resource.items() if k not in {"DependsOn", "Metadata"}},
                }
                for logical_id, resource in kept.items()
            },
            "Outputs": outputs,
        }
        if parameters:
            emulated["Parameters"] = parameters
        emulated |= {k: self.template[k] for k in ("Conditions", "Mappings") if k in self.template}
        return self._substitute(emulated, functions, replaced), expressions

    def _substitute(self, node: Any, functions: Mapping[str, Function], replaced: Mapping[str, Any]) -> Any:
        """Write in what a reference to a resource that MiniStack does not get would evaluate to."""
        if isinstance(node, list):
            return [self._substitute(item, functions, replaced) for item in node]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((key, value),) = node.items()
            if key == "Ref" and value in replaced:
                return self._physical(value, None, functions, replaced)
            if key == "Fn::GetAtt":
                logical_id, attribute = value.split(".", 1) if isinstance(value, str) else value
                if logical_id in replaced:
                    return self._physical(logical_id, attribute, functions, replaced)
            if key == "Fn::Sub" and isinstance(value, str):
                return {
                    key: re.sub(
                        r"\$\{([A-Za-z0-9]+)(?:\.([A-Za-z0-9.]+))?\}",
                        lambda m: (
                            self._physical(m[1], m[2], functions, replaced) if m[1] in replaced else m[0]
                        ),
                        value,
                    )
                }
        return {key: self._substitute(value, functions, replaced) for key, value in node.items()}

    def _physical(
        self,
        logical_id: str,
        attribute: str | None,
        functions: Mapping[str, Function],
        replaced: Mapping[str, Any],
    ) -> str:
        if logical_id == self.api:
            return (
                f"wss://{API_ID}.execute-api.{REGION}.amazonaws.com" if attribute == "ApiEndpoint" else API_ID
            )
        if logical_id in functions:
            function = functions[logical_id]
            return function.arn if attribute == "Arn" else function.name
        kind, properties = replaced[logical_id]["Type"], replaced[logical_id].get("Properties", {})
        if kind == "AWS::ApiGatewayV2::Stage":
            return str(properties["StageName"])
        service = kind.split("::")[1].lower()
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{logical_id}" if attribute else logical_id


def _references(node: Any) -> Iterator[str]:
    """Every logical id that an expression refers to."""
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value.split(".", 1)[0] if isinstance(value, str) else value[0]
            else:
                yield from _references(value)


def _reference(node: Any) -> str | None:
    return next(_references(node), None)
