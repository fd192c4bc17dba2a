"""Holds the default tiers, which apply if the configuration has none. (Contract §7.)"""

from __future__ import annotations

from typing import Final

from kyma_proxy.config.snapshot import NANO, Tier

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
