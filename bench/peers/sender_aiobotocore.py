"""Posts with aiobotocore, 64 at a time. Arguments: endpoint, certificate, how many, rounds."""

import sys

from bench.peers.messages import BODY, Meter

meter = Meter()
import asyncio  # noqa: E402

from aiobotocore.config import AioConfig  # noqa: E402
from aiobotocore.session import get_session  # noqa: E402

endpoint, certificate, count, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


async def main() -> None:
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(64)
    async with get_session().create_client(
        "apigatewaymanagementapi",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKID",
        aws_secret_access_key="SECRET",
        verify=certificate,
        config=AioConfig(max_pool_connections=64),
    ) as client:

        async def post(connection_id: str) -> bool:
            async with slots:
                try:
                    await client.post_to_connection(ConnectionId=connection_id, Data=BODY)
                except client.exceptions.GoneException:
                    return False
                return True

        async def send(receivers: list[str]) -> tuple[int, int]:
            sent = sum(await asyncio.gather(*map(post, receivers)))
            return sent, len(receivers) - sent

        def blocking(receivers: list[str]) -> tuple[int, int]:
            return asyncio.run_coroutine_threadsafe(send(receivers), loop).result()

        await asyncio.to_thread(meter.run, blocking, count, rounds)


asyncio.run(main())
