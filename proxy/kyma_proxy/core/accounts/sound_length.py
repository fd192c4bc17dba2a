"""Estimates the length of a sound from the beginning of its file and its size.

WAV and FLAC say it, an MP3 says its bit rate. Any other sound is taken for one of 32 kbit/s, which is what speech is usually
sent with (Opus, AAC). Sources: RFC 9639 (FLAC), ISO 11172-3 (MPEG audio), the RIFF specification.
"""

from __future__ import annotations

from typing import Final

_MS: Final = 1000
_USUAL_BYTES_PER_S: Final = 4000
_WAV_HEADER: Final = 44
_MP3_KBIT: Final = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1, layer III
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
)
_ID3: Final = b"ID3"


def estimated_milliseconds(begins: bytes, size: int) -> int:
    """About how long a sound of `size` bytes is, whose file begins so."""
    if begins[:4] == b"fLaC" and len(begins) >= 26:
        information = int.from_bytes(begins[18:26], "big")
        rate, samples = information >> 44, information & (1 << 36) - 1
        if rate and samples:
            return -(-samples * _MS // rate)
    return -(-max(0, size) * _MS // _bytes_per_s(begins))


def _bytes_per_s(begins: bytes) -> int:
    if begins[:4] == b"RIFF" and begins[8:16] == b"WAVEfmt " and len(begins) >= _WAV_HEADER:
        return max(int.from_bytes(begins[28:32], "little"), 1000)
    if begins[:3] == _ID3:
        return 16_000  # its first frame is far behind: 128 kbit/s, the usual rate of music
    if len(begins) >= 4 and begins[0] == 0xFF and begins[1] & 0xE6 == 0xE2:
        kbit = _MP3_KBIT[0 if begins[1] & 0x08 else 1][min(begins[2] >> 4, 14)]
        return kbit * 125 if kbit else _USUAL_BYTES_PER_S
    return _USUAL_BYTES_PER_S
