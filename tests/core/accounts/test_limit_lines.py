"""The lines of an answer's head say what an account has left of its limits, and for how long it must wait for the rest."""

from __future__ import annotations

import pytest

from kyma_proxy.config.snapshot import Tier
from kyma_proxy.core.accounts.limit_lines import LimitLines
from kyma_proxy.core.accounts.limits import Admission, Window

NOW = 1_000.0


def tier(rpm: int, tpm: int) -> Tier:
    return Tier(
        tier=0, name="0", min_purchased=0, rpm=rpm, per_model_rpm=rpm, tpm=tpm, max_request_tokens=tpm, image_concurrent=2,
        image_queue=6,
    )  # fmt: skip


@pytest.mark.parametrize(("rpm", "tpm", "requests", "tokens"), [
    (30, 200_000, 0, 0), (30, 200_000, 1, 7), (30, 200_000, 30, 100), (2_000, 1_000, 1, 1), (2_000, 999, 1_001, 0),
    (1_000, 10**12, 1, 10**9),
])  # fmt: skip
@pytest.mark.parametrize("after", [0.0, 0.0004, 0.0006, 1.5, 59.0, 59.9996, 60.0])
def test_the_lines_are_the_numbers_of_the_window(rpm: int, tpm: int, requests: int, tokens: int, after: float) -> None:
    window, of = Window("a"), tier(rpm, tpm)
    for number in range(requests):
        assert isinstance(window.admit(NOW, "m", 0 if number else tokens, of), Admission)
    now = NOW + after
    assert (
        LimitLines(of).lines(window, now)
        == (
            f"x-ratelimit-limit-requests: {rpm}\r\nx-ratelimit-limit-tokens: {tpm}\r\n"
            f"x-ratelimit-remaining-requests: {window.remaining_requests(now, of)}\r\n"
            f"x-ratelimit-remaining-tokens: {window.remaining_tokens(now, of)}\r\n"
            f"x-ratelimit-reset-requests: {window.requests_reset_s(now):.3f}s\r\n"
            f"x-ratelimit-reset-tokens: {window.tokens_reset_s(now):.3f}s\r\n"
        ).encode()
    )
