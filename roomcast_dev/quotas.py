"""Quotas that a new AWS account starts with, where they differ from region to region."""

_NEWER_REGIONS = frozenset(
    {
        *("af-south-1", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-7"),
        *("ca-west-1", "eu-central-2", "eu-south-1", "eu-south-2", "il-central-1", "me-central-1"),
        "mx-central-1",
    }
)
"""API Gateway's quotas page, November 2026."""


def requests_per_second(region: str | None) -> int:
    """API Gateway's requests a second for all APIs of an account in a region, before AWS raises them."""
    return 2_500 if region in _NEWER_REGIONS else 10_000
