"""The CPU of one message: roomcast.management_api compared with boto3, aiobotocore, the Node SDK and wrk.

Each sender is a process of its own on one core; nginx serves TLS on the other and answers 1 % of the posts
with 410, at once or after 10 ms. Ours runs over HTTP/1.1 and over HTTP/2, the others over HTTP/1.1, which is
what they speak. The figures are the median round of each, from one run, and the ratios are what counts:
absolute times belong to the machine.
"""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.peers.common import PEERS, ROOT, finish, need, npm, options, pin, run, venv
from tests.fakes.management_api import Certificate

AIOBOTOCORE = "aiobotocore==3.10.0"
NODE_SDK = "@aws-sdk/client-apigatewaymanagementapi@3.1169.0"
ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
TARGETS = {
    "boto3_cpu_ratio": (">=", 20.0),
    "node_cpu_ratio": (">=", 10.0),
    "wrk_cpu_ratio": ("<=", 1.5),
    "boto3_cpu_ratio_10ms": (">=", 12.0),
    "boto3_cpu_ratio_http2": (">=", 100.0),
}
CONF = """
load_module {echo};
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  default_type application/json; access_log off; keepalive_requests 1000000000;
  client_max_body_size 1m; client_body_in_single_buffer on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  ssl_certificate {certificate}; ssl_certificate_key {certificate}; ssl_session_cache shared:s:1m;
  add_header x-amzn-RequestId $request_id;
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=1024;
    location / {{ return 200; }}
    # Over HTTP/2 `return` comes before the body, which nginx then counts as an attack.
    location /http2/ {{ echo_read_request_body; echo_status 200; echo -n ""; }}
    location ~ ^/http2/.*gone=$ {{
      add_header x-amzn-ErrorType GoneException always;
      echo_read_request_body; echo_status 410; echo -n "{{}}";
    }}
    location ~ gone=$ {{ add_header x-amzn-ErrorType GoneException always; return 410 "{{}}"; }}
    location /slow/ {{ echo_sleep 0.01; echo_status 200; echo -n ""; }}
    location ~ ^/slow/.*gone=$ {{
      add_header x-amzn-ErrorType GoneException always; echo_sleep 0.01; echo_status 410; echo -n "{{}}";
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, certificate: Path) -> Iterator[int]:
    """nginx on the second core; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(CONF.format(folder=folder, certificate=certificate, port=port, echo=ECHO))
    process = subprocess.Popen(["nginx", "-c", str(conf)], preexec_fn=lambda: pin(1))
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wrk(url: str, seconds: int) -> dict[str, float]:
    """wrk with 64 connections, which is how many we open. It signs nothing and checks nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(
        ["wrk", "-t1", "-c64", f"-d{seconds}", "-s", str(PEERS / "post.lua"), url],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        preexec_fn=lambda: pin(0),
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    requests = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    return {"cpu_us": cpu * 1e6 / requests, "per_second": requests / seconds, "cold_us": 0.0}


def main() -> None:
    """Measure, show, write."""
    chosen = options(__doc__.splitlines()[0])
    need(
        "nginx",
        "wrk",
        "node",
        "npm",
        install="apt-get install -y nginx wrk libnginx-mod-http-echo nodejs npm",
    )
    if not ECHO.exists():
        sys.exit("sender.py needs nginx's echo module: apt-get install -y libnginx-mod-http-echo")
    aio = venv("aiobotocore", AIOBOTOCORE)
    node = npm("node", NODE_SDK)
    python: list[str | Path] = [sys.executable]
    environ = {"PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true", "NODE_NO_WARNINGS": "1"}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate = Certificate.write(folder / "localhost.pem").path
        environ["NODE_EXTRA_CA_CERTS"] = str(certificate)
        with nginx(folder, certificate) as port:
            for delay, path, http2 in ((0, "local", "http2"), (10, "slow", "slow")):
                url = f"https://localhost:{port}/{path}"
                for count in (1000,) if chosen.quick else (1000, 10_000):
                    rounds = 3
                    common = [url, certificate, str(count), str(rounds)]
                    senders: dict[str, Any] = {
                        "roomcast": [*python, PEERS / "sender_roomcast.py", *common],
                        "roomcast, HTTP/2": [
                            *(*python, PEERS / "sender_roomcast.py"),
                            *(f"https://localhost:{port}/{http2}", *common[1:], "2"),
                        ],
                        "boto3, 32 threads": [*python, PEERS / "sender_boto3.py", *common, "32"],
                        "boto3, 64 threads": [*python, PEERS / "sender_boto3.py", *common, "64"],
                        "aiobotocore": [aio, PEERS / "sender_aiobotocore.py", *common],
                        "Node SDK": ["node", PEERS / "sender_node.mjs", url, str(count), str(rounds), node],
                    }
                    print(
                        f"\n{count:,} messages, {delay} ms added delay        CPU µs     a second   cold µs"
                    )
                    taken: dict[str, dict[str, float]] = {}
                    for sender, command in senders.items():
                        taken[sender] = run(command, environ)
                        _show(sender, taken[sender])
                    taken["wrk"] = wrk(f"{url}/x", 2 if chosen.quick else 5)
                    _show("wrk", taken["wrk"])
                    _add(figures, taken, delay)
    finish(figures, TARGETS, chosen.json)


def _show(sender: str, taken: dict[str, float]) -> None:
    cold = f"{taken['cold_us']:9,.0f}" if taken["cold_us"] else ""
    print(f"  {sender:36} {taken['cpu_us']:9,.1f} {taken['per_second']:12,.0f} {cold}", flush=True)


def _add(figures: dict[str, float], taken: dict[str, dict[str, float]], delay: int) -> None:
    """The ratios; of the boto3s the better one counts. Larger counts overwrite smaller ones."""
    end = f"_{delay}ms" if delay else ""
    ours, http2 = taken["roomcast"], taken["roomcast, HTTP/2"]
    boto3 = min(taken["boto3, 32 threads"]["cpu_us"], taken["boto3, 64 threads"]["cpu_us"])
    boto3_cold = min(taken["boto3, 32 threads"]["cold_us"], taken["boto3, 64 threads"]["cold_us"])
    figures |= {
        f"boto3_cpu_ratio{end}": boto3 / ours["cpu_us"],
        f"aiobotocore_cpu_ratio{end}": taken["aiobotocore"]["cpu_us"] / ours["cpu_us"],
        f"node_cpu_ratio{end}": taken["Node SDK"]["cpu_us"] / ours["cpu_us"],
        f"wrk_cpu_ratio{end}": ours["cpu_us"] / taken["wrk"]["cpu_us"],
        f"messages_per_second{end}": ours["per_second"],
        f"boto3_cold_ratio{end}": boto3_cold / ours["cold_us"],
        f"node_cold_ratio{end}": taken["Node SDK"]["cold_us"] / ours["cold_us"],
        f"cpu_us{end}": ours["cpu_us"],
        f"boto3_cpu_ratio_http2{end}": boto3 / http2["cpu_us"],
        f"wrk_cpu_ratio_http2{end}": http2["cpu_us"] / taken["wrk"]["cpu_us"],
        f"messages_per_second_http2{end}": http2["per_second"],
        f"cpu_us_http2{end}": http2["cpu_us"],
    }


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
