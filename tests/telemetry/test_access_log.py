"""The access log loses no line that it can write, fails no request because of the others, and counts those."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import msgspec
import pytest

from kyma_proxy.telemetry.access_log import AccessLog
from kyma_proxy.telemetry.record import Record
from kyma_proxy.telemetry.recording import other_record


def record(number: int) -> Record:
    return other_record(f"request-{number}", "-", 400, float(number))


def numbers(path: Path) -> list[int]:
    """The numbers of the records in a log; each line must be a whole record."""
    lines = path.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    return [int(msgspec.json.decode(line, type=Record).ts) for line in lines]


def test_lines_are_written_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    for number in range(1000):
        log.write(record(number))
        if number % 7 == 0:
            log.flush()
    log.close()
    assert numbers(path) == list(range(1000))
    assert log.lost_lines == 0


def test_closing_writes_the_lines_that_wait(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.write(record(1))
    log.close()
    assert numbers(path) == [1]


def test_a_log_is_appended_to_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for number in (1, 2):
        log = AccessLog(str(path))
        log.write(record(number))
        log.close()
    assert numbers(path) == [1, 2]
    assert path.stat().st_mode & 0o007 == 0


def test_after_a_rename_a_reopened_log_is_written_to_a_new_file(tmp_path: Path) -> None:
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(str(path))
    log.write(record(1))
    path.rename(rotated)
    log.write(record(2))
    log.reopen()
    log.write(record(3))
    log.close()
    assert (numbers(rotated), numbers(path)) == ([1, 2], [3])


def test_a_log_that_can_not_be_reopened_is_written_to_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    log = AccessLog(str(folder / "access.log"))
    folder.rename(moved)
    with caplog.at_level(logging.WARNING, "kyma-proxy"):
        log.reopen()
        log.write(record(1))
        log.close()
    assert numbers(moved / "access.log") == [1]
    assert "can't be opened again" in caplog.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_lines_that_a_full_disk_does_not_take_are_counted_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full")
    with caplog.at_level(logging.WARNING, "kyma-proxy"):
        for number in range(5):
            log.write(record(number))
            log.write(record(number))
            log.flush()
        log.close()
    assert log.lost_lines == 10
    assert len(caplog.records) == 1


def test_a_line_that_a_full_disk_cuts_in_half_spoils_no_other_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    room = iter([len(msgspec.json.encode(record(0))) + 40, 0, 0, 10_000, 10_000])
    write = os.write

    def write_while_there_is_room(descriptor: int, data: bytes) -> int:
        if not (size := next(room)):
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:size])

    monkeypatch.setattr(os, "write", write_while_there_is_room)
    log = AccessLog(str(path))
    for numbers_of_batch in ((0, 1, 2), (3, 4), (5, 6), (7,)):
        for number in numbers_of_batch:
            log.write(record(number))
        log.flush()
    log.close()
    whole, torn, *after = path.read_bytes().splitlines()
    assert [int(msgspec.json.decode(line)["ts"]) for line in (whole, *after)] == [0, 5, 6, 7]
    assert msgspec.json.encode(record(1)).startswith(torn)
    assert log.lost_lines == 4


def test_lines_that_wait_for_a_slow_disk_are_bounded_and_the_others_are_counted_as_lost(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(pipe), max_pending_bytes=100_000)
    for number in range(2000):  # more than a pipe holds
        log.write(record(number))
    log.flush()
    for number in range(3):
        log.write(record(number))
    log.flush()
    assert log.lost_lines == 3
    os.close(reader)
    log.close()
    assert 3 <= log.lost_lines <= 2003


def test_a_flush_without_lines_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.flush()
    log.reopen()
    log.close()
    assert path.read_bytes() == b""


def test_a_closed_log_keeps_no_file_open(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    log = AccessLog(str(tmp_path / "access.log"))
    log.reopen()
    log.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_path_that_can_not_be_opened_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        AccessLog(str(tmp_path / "missing" / "access.log"))


def test_standard_output_is_written_and_never_reopened_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "output"
    with path.open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        log = AccessLog("-")
        log.write(record(1))
        log.reopen()
        log.write(record(2))
        log.close()
        os.fstat(output.fileno())
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("place", [0, 3, 31])
def test_a_record_that_can_not_be_written_costs_no_other_line(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "kyma-proxy")  # no report of a test could show the error, which quotes the record
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    for number in range(40):
        log.write(other_record("\ud800", "-", 400, 1.0) if number == place else record(number))
    log.close()
    assert numbers(path) == [number for number in range(40) if number != place]
    assert log.lost_lines == 1


def test_what_a_terminal_would_obey_is_made_visible_in_every_line_of_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    for number in range(3):
        log.write(other_record(f"\u202e{number}", "-", 400, float(number)))
    log.close()
    assert numbers(path) == [0, 1, 2]
    assert path.read_bytes().count(b"\\u202e") == 3
