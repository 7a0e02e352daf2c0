"""moto behind our own client, whose requests are written as for AWS and read by moto's mock."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import requests

from roomcast.aws_client.http import Answer, Connections


@contextmanager
def moto_over_http() -> Iterator[None]:
    """Inside `mock_aws`: what is asked of a host of AWS is answered by moto; other hosts stay as they are."""
    real = Connections.exchange

    def exchange(self: Connections, request: bytes) -> Answer:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if not headers["host"].endswith(".amazonaws.com"):
            return real(self, request)
        path = first.split(" ")[1]
        answer = requests.post(f"https://{headers['host']}{path}", headers=headers, data=body, timeout=5)
        names = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, names, answer.content)

    with mock.patch.object(Connections, "exchange", exchange):
        yield
