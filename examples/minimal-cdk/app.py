"""A CDK app with a realtime backend in its stack."""

import aws_cdk as cdk

from roomcast_cdk import RealtimeBackend

app = cdk.App()
stage = app.node.try_get_context("stage")
stack = cdk.Stack(app, f"shop-{stage}")
RealtimeBackend(stack, "Realtime", application="realtime.py")
app.synth()
