"""A stage as it is now, looked at again and again: what `roomcast top` shows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roomcast import Settings
from roomcast.errors import AwsError
from roomcast.sending.job_queue import dead_letter_queue
from roomcast.store.dynamodb import Tables
from roomcast.store.listing import Listing
from roomcast_dev import prices as price_table
from roomcast_dev.cli import measured_use, pricing, target
from roomcast_dev.cli.inspect import Overview
from roomcast_dev.cli.target import Place

RATES = ("Connected", "Disconnected", "Sent", "Gone", "Failed", "Unknown", "Recovered", "Gaps")
"""Metrics of a stage that is watched (`roomcast.metrics`), shown as counts a minute."""
_WINDOW = 300  # s; over which rates are taken. CloudWatch is a minute or two behind
_HOUR = 3600
_CLOUDWATCH_SECONDS = 60.0  # between two looks: metrics are of minutes, and each costs money
_REGION = "us-east-1"  # whose prices there are


@dataclass(frozen=True)
class Counted:
    """What CloudWatch has counted of a deployed stage.

    Attributes:
        a_minute: counts a minute, by name: `RATES`, `messages`, `errors`.
        dollars_an_hour: what the last hour has cost, without what idles.
    """

    a_minute: Mapping[str, float]
    dollars_an_hour: float


@dataclass(frozen=True)
class Look:
    """A stage at one moment.

    Attributes:
        place: what the stage is called.
        at: epoch seconds.
        seen: who is connected.
        came: connections that are there and were not at the look before.
        went: the reverse.
        queued: jobs on the fan-out queue; None where there is none.
        dead: jobs on its dead-letter queue.
        counted: None of the local stage, and until CloudWatch has answered.
        problem: why this is an earlier look; empty where it is not.
    """

    place: str
    at: float
    seen: Overview
    came: int = 0
    went: int = 0
    queued: int | None = None
    dead: int | None = None
    counted: Counted | None = None
    problem: str = ""


class Watch:
    """Looks at a stage.

    Args:
        place: the stage.
        environ: of a backend of it.
    """

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self._place = place
        self.listing = Listing(Tables.from_settings(Settings.from_env(environ)))
        self._queue = environ.get("WEBSOCKET_FANOUT_QUEUE_URL")
        self._sqs: Any = target.client("sqs") if self._queue else None
        self._last: Look | None = None
        self._counted: Counted | None = None
        self._counted_at = 0.0

    def look(self) -> Look:
        """Look now. Where AWS does not answer, the look before with the reason."""
        try:
            seen = Overview.of(self.listing.of_everybody())
            queued, dead = self._jobs()
            self._count(len(seen.connections))
        except AwsError as error:
            if self._last is None:
                raise
            return Look(**{**vars(self._last), "problem": str(error)})
        now = {connection.connection_id for connection in seen.connections}
        before = {c.connection_id for c in self._last.seen.connections} if self._last else now
        self._last = Look(
            self._place.name,
            time.time(),
            seen,
            came=len(now - before),
            went=len(before - now),
            queued=queued,
            dead=dead,
            counted=self._counted,
        )
        return self._last

    def _jobs(self) -> tuple[int | None, int | None]:
        if not self._queue:
            return None, None
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "RedrivePolicy"]
        found = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)["Attributes"]
        queued = int(found[names[0]]) + int(found[names[1]])
        if "RedrivePolicy" not in found:
            return queued, None
        url = self._sqs.get_queue_url(QueueName=dead_letter_queue(found["RedrivePolicy"]))["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names[:1])["Attributes"]
        return queued, int(attributes[names[0]])

    def _count(self, connections: int) -> None:
        """Ask CloudWatch, once a minute."""
        if self._place.is_local or time.monotonic() - self._counted_at < _CLOUDWATCH_SECONDS:
            return
        self._counted_at = time.monotonic()
        self._counted = Counted(self._rates(), self._dollars(connections))

    def _rates(self) -> dict[str, float]:
        resources = target.resources(self._place.name)
        wanted: list[tuple[str, tuple[str, str, Mapping[str, str]]]] = [
            *((name, ("Roomcast", name, {"Stack": self._place.name})) for name in RATES),
            *(
                ("messages", ("AWS/ApiGateway", "MessageCount", {"ApiId": api}))
                for api in resources.get("AWS::ApiGatewayV2::Api", [])
            ),
            *(
                ("errors", ("AWS/Lambda", "Errors", {"FunctionName": function}))
                for function in resources.get("AWS::Lambda::Function", [])
            ),
        ]
        client = target.client("cloudwatch", target.region(self._place.stage))
        sums = measured_use.sums(client, [metric for _, metric in wanted], seconds=_WINDOW)
        rates: dict[str, float] = {}
        for (name, _), total in zip(wanted, sums, strict=True):
            rates[name] = rates.get(name, 0.0) + total * 60 / _WINDOW
        return rates

    def _dollars(self, connections: int) -> float:
        counts = dict(
            measured_use.measure(self._place.name, connection_minutes=0, message_kb=1, seconds=_HOUR)
        )
        counts["connection_minutes"] = {"open now": connections * 60.0}
        del counts["secrets"]  # it is of a month
        return pricing.total(pricing.bill(counts, price_table.prices().of(_REGION)))
