"""At a terminal the access log is aligned and in colour, and nobody's words can do anything to the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyma_proxy.telemetry.access_log import AccessLog
from kyma_proxy.telemetry.pretty_log import PrettyLog, is_for_people, takes_colour
from kyma_proxy.telemetry.record import Record
from kyma_proxy.telemetry.recording import other_record

PLAIN, COLOURED = PrettyLog(in_colour=False), PrettyLog(in_colour=True)
_CODE = re.compile(r"\x1b\[\d+m")


def record(**members: Any) -> Record:
    usual = other_record("request-1", "chat/completions", 200, 1_800_000_000.0, duration_s=2.314)
    return msgspec.structs.replace(
        usual, **{"model": "gpt-4o", "model_requested": "gpt-4o", "provider": "openai", "dialect": "openai"} | members
    )


def test_a_line_has_the_time_status_endpoint_model_provider_times_tokens_and_cost() -> None:
    served = record(
        model_requested="fast", ttft_ms=312.4, prompt_tokens=27, completion_tokens=200, usage_source="reported",
        cost_usd=0.0021, attempts=["openai:answered"],
    )  # fmt: skip
    words = PLAIN.line(served).split()
    assert re.fullmatch(r"\d\d:\d\d:\d\d", words[0])
    assert " ".join(words[1:]) == "200 chat/completions fast → gpt-4o @ openai 312 ms 2.31 s 27+200 tok $0.002100"


@pytest.mark.parametrize(
    ("members", "note"),
    [
        ({"status": 200, "ending": "broken", "error_code": "provider_error"}, "broken; provider_error; id request-1"),
        ({"status": 499, "ending": "client_gone"}, "client_gone; id request-1"),
        ({"fallback_layer": 1, "attempts": ["p0:503", "p1:answered"]}, "fallback 1; after p0:503; id request-1"),
        ({"status": 404, "ending": "rejected", "error_code": "model_not_found"}, "model_not_found; id request-1"),
        ({"status": 400, "ending": "relayed_error"}, "id request-1"),
    ],
)  # fmt: skip
def test_what_was_unusual_stands_at_the_end_of_the_line(members: dict[str, Any], note: str) -> None:
    assert PLAIN.line(record(**members)).endswith(note)


@pytest.mark.parametrize(
    ("counts", "source", "text"),
    [
        ((3, 5), "reported", "3+5 tok"),
        ((3, None), "reported", "3 tok"),
        ((None, 5), "estimated", "~?+5 tok"),
        ((3, 5), "estimated", "~3+5 tok"),
        ((None, None), "none", "2.31 s"),
    ],
)
def test_tokens_are_those_of_the_prompt_and_of_the_answer(counts: tuple[int | None, ...], source: str, text: str) -> None:
    line = PLAIN.line(record(prompt_tokens=counts[0], completion_tokens=counts[1], usage_source=source))
    assert line.endswith(f" {text}")


def test_a_line_without_anything_unusual_has_no_note() -> None:
    assert "id" not in PLAIN.line(record()).split()


def test_columns_begin_at_the_same_place_whatever_is_in_them() -> None:
    made = [
        record(),
        record(model="m", provider=None, endpoint="-", status=503),
        record(model="x" * 200, model_requested="y" * 100, ttft_ms=99_999.0, endpoint="a/very/long/endpoint/name"),
    ]
    lines = [PLAIN.line(one) for one in made]
    assert len({line.index("2.31 s") for line in lines}) == 1


def test_colours_change_nothing_but_the_colour_and_tell_failures_apart() -> None:
    statuses = {200: "\x1b[32m", 404: "\x1b[33m", 503: "\x1b[31m"}
    for status, colour in statuses.items():
        one = record(status=status, error_code=None if status == 200 else "some_code")
        assert f"{colour}{status}" in COLOURED.line(one)
        assert _CODE.sub("", COLOURED.line(one)) == PLAIN.line(one)


@given(st.text(), st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_no_word_of_a_caller_or_a_provider_reaches_the_terminal_as_a_control(
    model: str, endpoint: str, code: str, attempts: list[str]
) -> None:
    one = record(model=model, model_requested=f"{model}x", endpoint=endpoint, error_code=code, attempts=attempts, provider=code)
    line = _CODE.sub("", COLOURED.line(one))
    assert line.isprintable()


def test_a_line_that_is_no_record_stays_as_it_is() -> None:
    lines = b'{"ts":1}\nnot JSON\n'
    assert PLAIN.lines(lines) == lines


@pytest.mark.parametrize("moment", [-1e300, 1e300, 0.0])
def test_a_moment_that_no_clock_shows_costs_no_line(moment: float) -> None:
    assert PLAIN.lines(msgspec.json.encode(record(ts=moment)) + b"\n").count(b"\n") == 1


def test_the_log_writes_as_many_lines_as_it_takes_in(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), form=PLAIN.lines)
    for status in range(200, 300):
        log.write(record(status=status, model="a\nb\x1b[2J\u202e"))
    log.close()
    lines = path.read_text().splitlines()
    assert [line.split()[1] for line in lines] == list(map(str, range(200, 300)))
    assert log.lost_lines == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_is_for_people_at_a_terminal_or_where_the_configuration_says_so() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    cases = [
        (path, is_for_people(path, terminal), is_for_people(path, pipe)) for path in ("-", "pretty", "/var/log/access.log")
    ]
    assert cases == [("-", True, False), ("pretty", True, True), ("/var/log/access.log", False, False)]


def test_colours_are_for_terminals_that_want_them() -> None:
    assert takes_colour(Terminal(), {"TERM": "xterm"})
    assert takes_colour(Terminal(), {"NO_COLOR": ""})
    assert not takes_colour(Terminal(), {"NO_COLOR": "1"})
    assert not takes_colour(Terminal(), {"TERM": "dumb"})
    assert not takes_colour(io.StringIO(), {})
