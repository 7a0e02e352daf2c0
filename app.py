"""Reads the stage from the context (`cdk ... -c stage=dev`) and makes its stack."""

import sys

import aws_cdk as cdk

from stacks.stage import Stage, StageError
from stacks.websocket_stack import WebSocketStack

app = cdk.App()
try:
    stage = Stage.from_context(app.node.try_get_context("stage"), app.node.try_get_context("stages"))
except StageError as error:
    sys.exit(f"error: {error}")
WebSocketStack(app, stage.stack_name, stage=stage)
app.synth()
