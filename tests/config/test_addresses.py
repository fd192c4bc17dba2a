"""A host is a name or an address that can stand in a URL, and nothing else."""

from __future__ import annotations

import pytest

from kyma_proxy.config.addresses import is_host


@pytest.mark.parametrize("host", ["localhost", "a.example", "a.example.", "127.0.0.1", "::1", "fe80::1%eth0", "fe80::1%25"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize("zone", ["a\r\nb", "a b", "\0", "a/b", "a@b", "]", "é", "a%b"])
def test_a_zone_that_no_url_can_carry_is_refused(zone: str) -> None:
    assert not is_host(f"fe80::1%{zone}")


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a@b", "[::1]", "é.example", "a\r\nb", "-a-", "x" * 254])
def test_what_is_no_host_is_refused(host: str) -> None:
    assert not is_host(host)
