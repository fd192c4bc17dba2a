"""Members that a source has refused are left out for an hour."""

from __future__ import annotations

from kyma_proxy.core.routing.refused_params import MAX_NAMES, REFUSED_S, RefusedParams


def test_a_refused_member_is_left_out_for_an_hour() -> None:
    refused = RefusedParams()
    refused.note(("seed",), 100.0)
    assert refused.names(100.0 + REFUSED_S - 1) == ("seed",)
    assert refused.names(100.0 + REFUSED_S) == ()


def test_a_member_that_is_refused_again_is_left_out_longer() -> None:
    refused = RefusedParams()
    refused.note(("seed", "user"), 0.0)
    refused.note(("seed",), 60.0)
    assert refused.names(REFUSED_S) == ("seed",)


def test_what_is_remembered_is_bounded() -> None:
    refused = RefusedParams()
    for number in range(3 * MAX_NAMES):
        refused.note((f"member_{number}",), float(number))
    assert len(refused.names(0.0)) == MAX_NAMES
