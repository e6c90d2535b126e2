"""What requests and bytes cost about, from the providers' price lists. Pure.

US dollars, first tier, standard storage, as of November 2026. Inside one region of one provider bytes cost nothing.
Source: https://aws.amazon.com/s3/pricing/ and https://cloud.google.com/storage/pricing
"""

from __future__ import annotations

from typing import NamedTuple

GIB = 1 << 30


class Prices(NamedTuple):
    """Prices of one provider in US dollars.

    Attributes:
        list_page: of one list request.
        read: of one GET or HEAD.
        egress_gib: of one GiB that leaves for the internet.
    """

    list_page: float
    read: float
    egress_gib: float


PRICES = {"s3": Prices(0.005 / 1000, 0.0004 / 1000, 0.09), "gs": Prices(0.005 / 1000, 0.0004 / 1000, 0.12)}


def read_cost(scheme: str, *, requests: int, size: int) -> tuple[float, float]:
    """US dollars for so many GETs and HEADs, and for `size` bytes if they leave the provider's network."""
    prices = PRICES[scheme]
    return requests * prices.read, size / GIB * prices.egress_gib


def list_cost(scheme: str, objects: int) -> float:
    """US dollars for listing so many objects, 1,000 a page."""
    return -(-objects // 1000) * PRICES[scheme].list_page
