"""AWS's own DynamoDB Local, which counts capacity as DynamoDB does; it comes inside an npm package."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.support.packages import npm, pin

PACKAGE = "amplify-dynamodb-simulator@2.9.30"


@contextmanager
def dynamodb_local(core: int = 1) -> Iterator[Any]:
    """Run it in memory on one core; a client of it."""
    if not shutil.which("java"):
        sys.exit(f"{Path(sys.argv[0]).name} needs Java 17: apt-get install -y openjdk-17-jre-headless")
    emulator = npm("dynamodb-local", PACKAGE) / "node_modules/amplify-dynamodb-simulator/emulator"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["java", "-Djava.library.path=./DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"]
    process = subprocess.Popen(
        [*command, "-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)],
        cwd=emulator,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: pin(core),
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                sys.exit(f"DynamoDB Local in {emulator} ended with {process.returncode}")
            time.sleep(0.1)
        yield boto3.client(
            "dynamodb",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(read_timeout=120, max_pool_connections=32),
        )
    finally:
        process.kill()
        process.wait()
