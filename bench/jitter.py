"""What clients that are cut off again and again receive, compared with Socket.IO in the same run.

    python bench/jitter.py [--quick] [--json FILE] [--only SCHEDULE ...] [--peers-only] [--no-peers]

100 clients of one room get 20 messages a second for a minute, and each is cut off for 2 s every 5 s: by a
proxy that resets connections, by one that goes silent, by the stand-in. More schedules are those that others
fail: cut before the first message, again during the recovery, for longer than the retention, connections that
are half open, a gateway that restarts, a crowd at once. The clients are the built ones, in Node processes.
They and the backend record what they do, and `roomcast check` judges the records.

Socket.IO 4.8 gets the same cuts with its connection state recovery and without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.cuts.run import Account, PlainSocketIO, Roomcast, Run, Server, SocketIO
from bench.cuts.schedules import SCHEDULES, Schedule, Size
from roomcast_dev.checker import check
from roomcast_dev.records import read

FULL = Size(clients=100, rate=20, seconds=60, crowd=1_000)
QUICK = Size(clients=20, rate=10, seconds=10, crowd=100)


async def measure(server: Server, name: str, schedule: Schedule, size: Size) -> Account:
    settings = dict(schedule.settings or {}) if isinstance(server, Roomcast) else None
    run = Run(server, size.crowd if schedule.crowd else size.clients, settings)
    await run.begin()
    await schedule.cuts(run, size)
    await run.settle()
    account = await run.end(name)
    if isinstance(server, Roomcast):
        judge(account, run, schedule)
    return account


def judge(account: Account, run: Run, schedule: Schedule) -> None:
    """What `roomcast check --complete` says of the records, with `--no-gaps` where none may be."""
    records = [
        record
        for file in run.records
        if file.exists()
        for record in read(file.read_text().splitlines(), file.name)
    ]
    verdict = check(records, complete=True, gaps=schedule.gap)
    account.violations = [violation.message for violation in verdict.violations]
    account.verdict = f"{len(verdict.violations)} violations" if verdict.violations else "sound"
    if not verdict.delivered:
        account.verdict = "no records"
    if schedule.gap and set(account.gaps_told) != {1}:
        account.violations.append("not every client was told one gap")


def show(account: Account) -> None:
    deliveries = max(1, account.delivered)
    print(
        f"  {account.server:26}{account.share:>10.3%}{account.out_of_order:>8}{account.repeated:>9}"
        f"{account.gaps:>6}  {account.delay(0.5):>7.0f}{account.delay(0.95):>7.0f}{account.delay(0.99):>7.0f}"
        f"{account.frames / deliveries:>9.2f}{100 * account.history / deliveries:>9.2f}"
        f"{account.rate:>7.1f}  {account.verdict}",
        flush=True,
    )
    for message in account.violations[:3]:
        print(f"      {message}", flush=True)


HEADER = (
    f"  {'':26}{'delivered':>10}{'order':>8}{'repeats':>9}{'gaps':>6}  {'p50':>7}{'p95':>7}{'p99':>7}"
    f"{'frames':>9}{'history':>9}{'rate':>7}  records\n"
    f"  {'':26}{'':>10}{'':>8}{'':>9}{'':>6}  {'ms':>7}{'ms':>7}{'ms':>7}{'each':>9}{'per 100':>9}{'1/s':>7}"
)


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 clients for 10 s, a crowd of 100")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--only", nargs="+", choices=list(SCHEDULES), default=list(SCHEDULES))
    parser.add_argument("--peers-only", action="store_true", help="leave Roomcast out")
    parser.add_argument("--no-peers", action="store_true", help="leave Socket.IO out")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    folder = Path(tempfile.mkdtemp(prefix="bench-jitter-"))
    print(f"logs and records in {folder}")
    accounts: list[Account] = []
    servers: list[Server] = [] if options.peers_only else [Roomcast(folder)]
    servers += [] if options.no_peers else [SocketIO(folder), PlainSocketIO(folder)]
    for server in servers:
        await server.start()
    try:
        for name in options.only:
            schedule = SCHEDULES[name]
            crowd = size.crowd if schedule.crowd else size.clients
            print(f"\n{name}: {crowd} clients\n{HEADER}", flush=True)
            for server in servers:
                if schedule.peers or isinstance(server, Roomcast):
                    account = await measure(server, name, schedule, size)
                    show(account)
                    accounts.append(account)
    finally:
        for server in servers:
            await server.stop()
    if options.json:
        options.json.write_text(json.dumps(figures(accounts), indent=2) + "\n")
    return 1 if any(account.violations for account in accounts) else 0


def figures(accounts: list[Account]) -> dict[str, Any]:
    ours = [a for a in accounts if a.server == Roomcast.name and not SCHEDULES[a.schedule].gap]
    theirs = [a for a in accounts if a.server == SocketIO.name]
    return {
        "delivered_share": min((a.share for a in ours), default=None),
        "out_of_order": sum(a.out_of_order for a in ours),
        "repeated": sum(a.repeated for a in ours),
        "false_gaps": sum(a.gaps for a in ours),
        "socketio_delivered_share": min((a.share for a in theirs), default=None),
        "runs": [
            {
                "server": a.server,
                "schedule": a.schedule,
                "delivered_share": a.share,
                "out_of_order": a.out_of_order,
                "repeated": a.repeated,
                "gaps": a.gaps,
                "delay_ms": [a.delay(0.5), a.delay(0.95), a.delay(0.99)],
                "messages": a.frames,
                "history_requests": a.history,
                "sends_per_second": a.rate,
            }
            for a in accounts
        ],
    }


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
