"""The length of a sound is estimated from the beginning of its file and its size."""

from __future__ import annotations

import pytest

from kyma_proxy.core.accounts.sound_length import estimated_milliseconds
from tests.forms import wav


def flac(rate: int, samples: int) -> bytes:
    told = (rate << 44) | (1 << 41) | (15 << 36) | samples
    return b"fLaC\x00\x00\x00\x22" + bytes(10) + told.to_bytes(8, "big") + bytes(16)


@pytest.mark.parametrize(("begins", "size", "milliseconds"), [
    (wav(3000), len(wav(3000)), 3003), (flac(16_000, 32_000), 10**6, 2000), (flac(16_000, 0), 4000, 1000),
    (b"\xff\xfb\x90\x64", 16_000, 1000),  # MPEG 1, layer III, 128 kbit/s
    (b"\xff\xf3\x40\xc4", 32_000, 8000),  # MPEG 2, layer III, 32 kbit/s
    (b"\xff\xfb\x00\x64", 4000, 1000), (b"\xff\xfb\xf0\x64", 40_000, 1000), (b"ID3\x04", 16_000, 1000),
    (b"OggS", 4000, 1000), (b"\x1aE\xdf\xa3", 8000, 2000), (b"", 0, 0), (b"RIFF", 4000, 1000),
])  # fmt: skip
def test_a_sound_is_as_long_as_its_file_says(begins: bytes, size: int, milliseconds: int) -> None:
    assert estimated_milliseconds(begins, size) == milliseconds


def test_no_beginning_makes_a_sound_of_no_or_endless_length() -> None:
    for first in range(256):
        for second in range(256):
            length = estimated_milliseconds(bytes((first, second, second, first)), 10**6)
            assert 1000 < length < 2_000_000
    assert estimated_milliseconds(b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(40), 10**6) == 1_000_000
