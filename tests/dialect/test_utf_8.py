"""A text is UTF-8 as a whole, or it is refused: also between two of the slices in which it is looked at."""

from __future__ import annotations

import pytest

from kyma_proxy.dialect.utf_8 import check_utf_8
from kyma_proxy.errors import GatewayError, Kind

AROUND = (0, 1, 65_533, 65_534, 65_535, 65_536, 131_071)


@pytest.mark.parametrize("character", ["é", "€", "\U0001f600"])
@pytest.mark.parametrize("before", AROUND)
def test_a_character_may_stand_anywhere(character: str, before: int) -> None:
    check_utf_8(b"x" * before + character.encode() + b"x" * 9)


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf"])
@pytest.mark.parametrize("before", AROUND)
def test_what_is_no_character_is_refused_wherever_it_stands(broken: bytes, before: int) -> None:
    for after in (b"", b"x" * 9):
        with pytest.raises(GatewayError, match=rf"byte {before} of it is not UTF-8") as caught:
            check_utf_8(b"x" * before + broken + after)
        assert caught.value.kind is Kind.INVALID_JSON
