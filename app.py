"""Makes the stack of one stage (`cdk ... -c stage=dev`), or the one of the account (`-c stage=account`)."""

import sys

import aws_cdk as cdk

from roomcast_cdk.account_stack import STACK_NAME, Account, AccountStack
from roomcast_cdk.setting import StageError
from roomcast_cdk.stage import ACCOUNT, Stage
from stacks.websocket_stack import WebSocketStack

app = cdk.App()
try:
    name = app.node.try_get_context("stage")
    if name == ACCOUNT:
        account = Account.from_context(app.node.try_get_context("account"))
        AccountStack(app, STACK_NAME, account=account)
    else:
        stage = Stage.from_context(name, app.node.try_get_context("stages"))
        WebSocketStack(app, stage.stack_name, stage=stage)
except StageError as error:
    sys.exit(f"error: {error}")
app.synth()
