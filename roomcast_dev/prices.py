"""AWS's list prices: `prices.json` read once, for `roomcast cost` and for the dashboard of a stage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Price:
    """What one component costs.

    Attributes:
        name: for people.
        unit: what is counted.
        per: how many of them `tiers` give a price for.
        tiers: in order, up to which quantity (None: no end) and the dollars.
    """

    name: str
    unit: str
    per: float
    tiers: Sequence[tuple[float | None, float]]

    @property
    def first(self) -> float:
        """The dollars that one unit costs in the first tier."""
        return self.tiers[0][1] / self.per

    def of(self, quantity: float) -> float:
        """The dollars that a month's quantity costs."""
        dollars, below = 0.0, 0.0
        for up_to, price in self.tiers:
            upper = quantity if up_to is None else min(quantity, up_to)
            dollars += max(0.0, upper - below) / self.per * price
            below = upper
        return dollars


@dataclass(frozen=True)
class Prices:
    """The price table.

    Attributes:
        date: when the prices were noted.
        regions: by region and component.
    """

    date: str
    regions: Mapping[str, Mapping[str, Price]]

    def of(self, region: str) -> Mapping[str, Price]:
        """The prices of a region.

        Raises:
            ValueError: there are none.
        """
        if region not in self.regions:
            known = ", ".join(self.regions)
            raise ValueError(f"no prices for {region!r}: roomcast_dev/prices.json has {known}")
        return self.regions[region]


def prices() -> Prices:
    """Read `prices.json`."""
    table = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    regions = {
        region: {
            key: Price(**{**price, "tiers": tuple(map(tuple, price["tiers"]))}) for key, price in of.items()
        }
        for region, of in table["regions"].items()
    }
    return Prices(table["date"], regions)
