"""Watching a stage: a dashboard, alarms that say what to do, and saved queries of the logs."""

from constructs import Construct

from stacks.fan_out import FanOut
from stacks.monitoring.alarms import alarms, topic
from stacks.monitoring.counter import counter
from stacks.monitoring.dashboard import dashboard
from stacks.monitoring.metrics import Metrics
from stacks.monitoring.queries import queries
from stacks.shared import Shared
from stacks.tables import Tables
from stacks.websocket_api import WebSocketApi


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
