"""A provider's hint is understood in every form in which providers write it."""

from __future__ import annotations

import pytest

from kyma_proxy.core.routing.retry_after import retry_after

DATE = b"Sun, 22 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7),
        ({b"retry-after": b"0"}, 0),
        ({b"retry-after": b"2.5"}, 3),
        ({b"retry-after-ms": b"1500", b"retry-after": b"9"}, 2),
        ({b"retry-after-ms": b"soon", b"retry-after": b"9"}, 9),
        ({b"retry-after": b"Sun, 22 Nov 2026 10:01:30 GMT", b"date": DATE}, 90),
        ({b"retry-after": b"Sun, 22 Nov 2026 09:00:00 GMT", b"date": DATE}, 0),
        ({b"retry-after": b"Sun, 22 Nov 2026 10:01:30 GMT"}, None),
        ({b"retry-after": b"soon", b"date": DATE}, None),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"9" * 30}, None),
    ],
)
def test_it_is_read_in_whole_seconds(fields: dict[bytes, bytes], seconds: int | None) -> None:
    assert retry_after(fields) == seconds
