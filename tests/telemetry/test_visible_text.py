"""Others' words in a log or on a terminal can't hide, reorder or end a line: such characters are written as escapes."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from pathlib import Path

import pytest

from kyma_proxy.ops.accounts import formatting
from kyma_proxy.ops.options import print_json
from kyma_proxy.telemetry.process_log import begin_process_log
from kyma_proxy.telemetry.visible_text import visible, visible_line
from tests.harness import both

BIDIRECTIONAL = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
SEPARATORS = [0x85, 0x2028, 0x2029]
ZERO_WIDTH = [0xAD, 0x034F, 0x115F, 0x1160, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060, 0x2064, 0x3164, 0xFE0F, 0xFEFF, 0xFFA0]
ANNOTATIONS_AND_TAGS = [0xFFF9, 0xFFFB, 0x1D173, 0xE0001, 0xE0041, 0xE0100, 0x1BCA0]
CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
INVISIBLE = [*BIDIRECTIONAL, *SEPARATORS, *ZERO_WIDTH, *ANNOTATIONS_AND_TAGS, *CONTROLS, 0xD800, 0xDFFF]


@pytest.mark.parametrize("code", INVISIBLE)
def test_each_character_that_is_not_visible_is_an_escape(code: int) -> None:
    written = visible(f"a{chr(code)}b")
    assert written.isascii()
    assert written.startswith("a\\u")
    assert json.loads(f'"{written}"') == f"a{chr(code)}b"


@pytest.mark.parametrize("text", ["", "plain", "größer", "日本語", "עברית", "العربية", "😀", "e\u0301", "a b"])
def test_visible_text_of_any_script_stays_as_it_is(text: str) -> None:
    assert visible(text) is text
    assert visible_line(text.encode()) == text.encode()


def test_no_format_character_and_no_separator_but_the_space_is_ever_written() -> None:
    everything = "".join(map(chr, range(0x110000)))
    written = visible(everything)
    assert {unicodedata.category(one) for one in set(written)}.isdisjoint({"Cf", "Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
    assert [one for one in set(written) if unicodedata.category(one) == "Zs"] == [" "]


async def test_a_line_of_the_access_log_is_visible_and_means_the_same(tmp_path: Path) -> None:
    model = "m\u202e\u2028\u200b\x9b31m\x7f\U000e0041é"
    async with both(tmp_path) as (gateway, _):
        client = await gateway.client()
        client.post(json.dumps({"model": model, "messages": []}, ensure_ascii=False).encode())
        assert (await client.answer()).status == 404
        assert (await gateway.records())[0]["model_requested"] == model
        line = (tmp_path / "access.log").read_text()
        assert "m\\u202e\\u2028\\u200b\\u009b31m\\u007f\\udb40\\udc41é" in line


def test_a_line_of_the_process_log_is_one_line_and_a_traceback_keeps_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    begin_process_log()
    log = logging.getLogger("kyma-proxy")
    log.warning("provider says: %s", "fine\nERROR \u202eeverything\x1b[31m")
    try:
        raise ValueError("\u2066bad\x9b")
    except ValueError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "WARNING provider says: fine\\u000aERROR \\u202eeverything\\u001b[31m"
    assert lines[1] == "ERROR failed"
    assert lines[-1] == "ValueError: \\u2066bad\\u009b"
    assert len(lines) > 3


def test_the_commands_print_what_is_visible(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    key = {"id": "k\u202e1", "prefix": "ky-a", "name": "n\u200b\x1b[2J", "created": 0, "last_used": None}
    assert formatting.keys({"data": [key]}).splitlines()[1].startswith("k\\u202e1  ky-a…        n\\u200b\\u001b[2J")
    print_json({"name": "n\u202e"})
    assert capfdbinary.readouterr().out == b'{"name":"n\\u202e"}\n'
