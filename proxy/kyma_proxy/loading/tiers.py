"""Compiles the tiers of a configuration, and holds the default ones, which apply if it has none. (Contract §7.)"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from kyma_proxy.config.snapshot import NANO, Tier
from kyma_proxy.loading import document as doc

# tier, min purchased USD, RPM, RPM per model, TPM, tokens in one request, images at once, images queued
_ROWS: Final = (
    (0, 0, 30, 25, 200_000, 200_000, 2, 6),
    (1, 10, 60, 40, 500_000, 500_000, 10, 30),
    (2, 50, 120, 80, 2_000_000, 1_000_000, 20, 60),
    (3, 250, 200, 150, 5_000_000, 3_000_000, 28, 84),
    (4, 1_000, 300, 200, 10_000_000, 10_000_000, 38, 114),
)

SHIPPED_TIERS: Final = tuple(
    Tier(
        tier=tier,
        name=f"Tier {tier}",
        min_purchased=usd * NANO,
        rpm=rpm,
        per_model_rpm=per_model_rpm,
        tpm=tpm,
        max_request_tokens=tokens,
        image_concurrent=images,
        image_queue=queue,
    )
    for tier, usd, rpm, per_model_rpm, tpm, tokens, images, queue in _ROWS
)


def compile_tiers(written: Iterable[tuple[int, doc.Tier]], report: Callable[[str, str], None]) -> tuple[Tier, ...]:
    """The tiers of a configuration file, each with its index there; `report` takes a path and what is wrong there."""
    tiers = tuple(
        Tier(
            **{name: getattr(tier, name) for name in tier.__struct_fields__ if name not in ("name", "min_purchased")},
            name=tier.name or f"Tier {tier.tier}",
            min_purchased=int(tier.min_purchased * NANO),
        )
        for _, tier in written
    )
    for at, tier in enumerate(tiers):
        below = tiers[at - 1].min_purchased if at else -1
        if tier.tier != at or tier.min_purchased <= below or (at == 0 and tier.min_purchased):
            report(f"tiers[{at}]", "tiers are numbered 0, 1, 2, …, and min_purchased begins at 0 and rises")
    if not tiers:
        report("tiers", "the list must not be empty; leave it out for the shipped tiers")
    return tiers
