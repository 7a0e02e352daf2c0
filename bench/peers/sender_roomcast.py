"""Posts with our own sender. Arguments: endpoint, certificate, how many, rounds, and `2` for HTTP/2."""

import ssl
import sys

from bench.peers.messages import BODY, Meter

meter = Meter()
from botocore.credentials import Credentials  # noqa: E402

from roomcast.management_api.client import ManagementApi  # noqa: E402

endpoint, certificate, count, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
gateway = ManagementApi(
    endpoint,
    region="us-east-1",
    credentials=Credentials("AKID", "SECRET"),
    ssl_context=ssl.create_default_context(cafile=certificate),
    http2=sys.argv[5:] == ["2"],
)


def send(receivers: list[str]) -> tuple[int, int]:
    report = gateway.post(receivers, BODY, budget=600)
    return len(report.sent), len(report.gone)


meter.run(send, count, rounds)
