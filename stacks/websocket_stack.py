"""The stack of one stage: `RealtimeBackend`, and the resources of the application."""

from pathlib import Path

import aws_cdk as cdk
from constructs import Construct

from roomcast_cdk import RealtimeBackend, Stage
from stacks import application

APPLICATION = Path(__file__).resolve().parent.parent / "lambdas" / "app.py"
"""The rooms, actions and events of this project."""


class WebSocketStack(cdk.Stack):
    """A whole stage. Needs no AWS account, no network and no Docker to be synthesized.

    A stack whose data is kept is protected against deletion. CloudFormation protects it from the start, so a
    first deployment that fails leaves a protected stack with nothing in it: `roomcast unblock` lifts that.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage) -> None:
        super().__init__(
            scope,
            id_,
            description=f"Realtime backend, stage {stage.name}: WebSocket API, functions, tables",
            env=cdk.Environment(account=stage.account, region=stage.region),
            termination_protection=stage.keep_data,
            tags={"roomcast:stage": stage.name} | dict(stage.tags or {}),
        )
        # CDK leaves this id out of logical ids: the tables of stages that are deployed have none with it.
        self.backend = RealtimeBackend(self, "Default", settings=stage, application=APPLICATION)
        application.add_resources(Construct(self, "Application"), self.backend.application)
