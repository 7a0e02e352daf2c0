"""Roomcast as an AWS CDK construct, for the stack of any CDK app: `pip install "roomcast[cdk]"`."""

from roomcast_cdk.realtime_backend import RealtimeBackend
from roomcast_cdk.setting import StageError
from roomcast_cdk.stage import Stage

__all__ = ["RealtimeBackend", "Stage", "StageError"]
