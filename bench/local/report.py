"""The figures as a table, and the ratios to serverless-offline."""

from __future__ import annotations

import os
import platform
import statistics
from typing import Any

from bench.local.peers import LandingHub, LandingHubReturning, Ours, SameJob


def report(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Print medians and spread, and the ratios to serverless-offline; returns what `--json` writes."""
    keys = [
        ("connects_200", "connects/s, 200"),
        ("connects_1000", "connects/s, 1,000"),
        ("ping_1_p50_ms", "ping, 1 client, p50 ms"),
        ("ping_1_p99_ms", "ping, 1 client, p99 ms"),
        ("ping_10_p50_ms", "ping, 10 clients, p50 ms"),
        ("ping_10_p99_ms", "ping, 10 clients, p99 ms"),
        ("round_trips", "best round trips/s"),
        ("fanout_100_ms", "room send to 100, ms"),
        ("fanout_1000_ms", "room send to 1,000, ms"),
        ("lost", "messages lost in these sends"),
        ("start_s", "start to first connect, s"),
        ("memory_before_mb", "memory at start, MB"),
        ("memory_1000_mb", "memory, 1,000 connections, MB"),
        ("memory_after_mb", "memory at the end, MB"),
    ]
    names = list(results)
    medians: dict[str, dict[str, float]] = {name: {} for name in names}
    print(f"\n{'':32}" + "".join(f"{name:>31}" for name in names))
    for key, label in keys:
        cells = []
        for name in names:
            values = sorted(run[key] for run in results[name] if key in run)
            if values:
                medians[name][key] = statistics.median(values)
                spread = f" ({values[0]:.4g}..{values[-1]:.4g})" if len(values) > 1 else ""
                cells.append(f"{medians[name][key]:.4g}{spread}")
            else:
                cells.append("-")
        print(f"{label:32}" + "".join(f"{cell:>31}" for cell in cells))
    summary: dict[str, Any] = {"peers": medians, "python": platform.python_version(), "cores": os.cpu_count()}
    ours, theirs, gateway = (medians.get(peer.name) for peer in (Ours, LandingHub, SameJob))
    if ours:
        summary["memory_mb"] = ours["memory_1000_mb"]
    if ours and theirs and gateway:
        summary |= {
            "connects_ratio": min(gateway[key] / theirs[key] for key in ("connects_200", "connects_1000")),
            "round_trips_ratio": gateway["round_trips"] / theirs["round_trips"],
            "fanout_100_ratio": theirs["fanout_100_ms"] / ours["fanout_100_ms"],
            "fanout_1000_ratio": theirs["fanout_1000_ms"] / ours["fanout_1000_ms"],
            "start_ratio": theirs["start_s"] / ours["start_s"],
            # Our own handlers do more for each event than the peer's: one transaction a connect, one update
            # a message (revocation, rate limit).
            "connects_product_ratio": min(
                ours[key] / theirs[key] for key in ("connects_200", "connects_1000")
            ),
            "round_trips_product_ratio": ours["round_trips"] / theirs["round_trips"],
        }
        if returned := medians.get(LandingHubReturning.name):
            summary["round_trips_returned_ratio"] = gateway["round_trips"] / returned["round_trips"]
        print(
            "\nBeside serverless-offline (higher is better; to reach: connects 2, round trips 3, fan-out 3, "
            "to 1,000 it is 5, start 1; of the product connects 3.5, round trips 2.5):"
        )
        for key, value in summary.items():
            if key.endswith("_ratio"):
                print(f"  {key:28} {value:.2f}")
        print(f"  memory_mb {summary['memory_mb']:.0f} (to reach: under 400)")
    return summary
