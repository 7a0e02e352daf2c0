"""Posts with boto3 and a pool of threads. Arguments: endpoint, certificate, how many, rounds, threads."""

import sys

from bench.peers.messages import BODY, Meter

meter = Meter()
from concurrent.futures import ThreadPoolExecutor  # noqa: E402

import boto3  # noqa: E402
from botocore.config import Config  # noqa: E402

endpoint, certificate, count, rounds, threads = *sys.argv[1:3], *map(int, sys.argv[3:6])
client = boto3.client(
    "apigatewaymanagementapi",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="AKID",
    aws_secret_access_key="SECRET",
    verify=certificate,
    config=Config(max_pool_connections=threads),
)
pool = ThreadPoolExecutor(threads)


def post(connection_id: str) -> bool:
    try:
        client.post_to_connection(ConnectionId=connection_id, Data=BODY)
    except client.exceptions.GoneException:
        return False
    return True


def send(receivers: list[str]) -> tuple[int, int]:
    sent = sum(pool.map(post, receivers))
    return sent, len(receivers) - sent


meter.run(send, count, rounds)
