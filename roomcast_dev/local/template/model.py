"""What the local run knows of one stack: routes, functions, queues, limits.

Nothing of it is written a second time: it comes from the CloudFormation template that `cdk deploy` would
send to AWS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

API_ID = "local0api0"
"""What the API's logical id evaluates to; execute-api URLs that carry it become local ones."""
REGION = "us-east-1"
ACCOUNT = "000000000000"

_EXECUTE_API = re.compile(rf"(wss|https)://{API_ID}\.execute-api\.{REGION}\.amazonaws\.com")


@dataclass(frozen=True, slots=True)
class LambdaFunction:
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
    application: str | None = None
    """The application in its code, as its `RealtimeBackend` was given it: a path in the project."""

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
    functions: Mapping[str, LambdaFunction]
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
