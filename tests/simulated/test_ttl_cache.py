"""The cache of queued requests and images is bounded in number and in time."""

from __future__ import annotations

from kyma_proxy.simulated.ttl_cache import TTLCache


def test_a_full_cache_evicts_its_oldest_value() -> None:
    cache: TTLCache[int] = TTLCache(max_entries=2, ttl_s=10)
    for at, key in enumerate("abc"):
        cache.put(key, at, float(at))
    assert [cache.get(key, 3.0) for key in "abc"] == [None, 1, 2]


def test_a_replaced_value_expires_when_its_predecessor_would_have() -> None:
    cache: TTLCache[int] = TTLCache(max_entries=2, ttl_s=10)
    cache.put("b", 1, 1.0)
    cache.put("c", 2, 2.0)
    cache.put("b", 7, 9.0)
    assert [cache.get("b", 10.9), cache.get("b", 11.0), cache.get("c", 11.0)] == [7, None, 2]
