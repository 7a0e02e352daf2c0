"""The local run's limits, where a document quotes them."""

from pathlib import Path

from roomcast_dev.local.lambda_host.pool import PoolLimits


def test_the_decision_about_growing_pools_quotes_the_real_limit() -> None:
    text = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text()
    assert PoolLimits().blocked_after == 0.1
    assert "for a tenth of a second (`PoolLimits.blocked_after`)" in " ".join(text.split())
