"""No two charges have the same name, and later names sort after earlier ones."""

from __future__ import annotations

from kyma_proxy.accounting.references import References


def test_names_of_charges_differ_and_sort_in_the_order_of_their_making() -> None:
    names, others = References("18f-a"), References("18f-b")
    made = [names() for _ in range(2_000)]
    assert sorted(set(made)) == made
    assert {len(name) for name in made} == {len(made[0])}
    assert not {others() for _ in range(2_000)} & set(made)
