"""Watching a stage: a dashboard, alarms that say what to do, and saved queries of the logs."""

from constructs import Construct

from roomcast_cdk.fan_out import FanOut
from roomcast_cdk.monitoring.alarms import alarms, topic
from roomcast_cdk.monitoring.counter import counter
from roomcast_cdk.monitoring.dashboard import dashboard
from roomcast_cdk.monitoring.metrics import Metrics
from roomcast_cdk.monitoring.queries import queries
from roomcast_cdk.shared import Shared
from roomcast_cdk.tables import Tables
from roomcast_cdk.websocket_api import WebSocketApi


class Monitoring(Construct):
    """What a stage is watched with.

    Attributes:
        topic: is notified of alarms, and of their end.
        dashboard: answers the questions of operations at a glance.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        shared: Shared,
        tables: Tables,
        api: WebSocketApi,
        fan_out: FanOut,
    ) -> None:
        super().__init__(scope, id_)
        functions = (*api.functions, fan_out.worker, counter(self, shared=shared, tables=tables))
        metrics = Metrics(stage=shared.stage, tables=tables, api=api, fan_out=fan_out, functions=functions)
        self.topic = topic(self, shared=shared)
        watched = alarms(self, metrics=metrics, topic=self.topic)
        self.dashboard = dashboard(self, metrics=metrics, alarms=watched)
        queries(self, stage=shared.stage, functions=functions)
