"""Explains why a text is no YAML: the parser names a rule of YAML's grammar, and people want to know what to write instead."""

from __future__ import annotations

import re
from typing import Final

import yaml

from kyma_proxy.loading.variables import find_foreign, unshielded

_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNFIT: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
_CONFLICT: Final = re.compile(r"(?:<{7}|>{7}) |={7}$")
_NO_SPACE: Final = re.compile(r"\s*(?:- +)?[A-Za-z_][\w.-]*:\S")
_NO_SPACE_AFTER_DASH: Final = re.compile(r"\s*-[A-Za-z_]")
_KEY: Final = re.compile(r"""(?:[^\s'"#:]|:(?=\S))+:(?:\s|$)|"[^"]*":|'[^']*':""")
_TWO_COLONS: Final = re.compile(r"""\s*(?:- +)*[\w.-]+: +[^\s'"\[{#][^#]*?: """)
_INVISIBLE: Final = re.compile("(?:^[\u00a0\u2000-\u200b\u202f\u3000 ]*|[:-] *)[\u00a0\u2000-\u200b\u202f\u3000\ufeff]")
"""At the beginning of a line, or where YAML wants a space."""
_MAX_LOOKED_AT: Final = 500
"""Characters of a line."""
_INI: Final = re.compile(r"\s*\[[\w.\" -]+\]\s*(?:#.*)?")


def explain_character(text: str) -> tuple[int, str]:
    """The line of the first character that YAML does not allow, and what it is."""
    found = _UNFIT.search(text)
    if found is None:
        return 0, "this is not YAML: it can't be read as text"
    line = len(_BREAK.findall(text, 0, found.start())) + 1
    if found[0] == "\0":
        return line, "this is not YAML: there is a NUL character here; save the file as UTF-8, if it is UTF-16 or UTF-32"
    name = f"U+{ord(found[0]):04X}"
    return line, f"this is not YAML: the character {name} is not allowed here; retype this line, and save the file as UTF-8"


def explain_syntax(text: str, error: yaml.MarkedYAMLError, opened: int | None) -> tuple[int, str]:
    """The line of a syntax error, and what is wrong there. `opened` is the line of the innermost open bracket."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return 0, f"this is not YAML: {error.problem}"
    lines = _BREAK.split(text)
    begun = error.context_mark.line if error.context_mark is not None else mark.line
    line, what = _Explainer(lines, mark.line, mark.column, begun, opened).explain(error.problem or "", error.context or "")
    return line + 1, f"this is not YAML: {what}"


class _Explainer:
    """One syntax error: where it is, and where the part of the text began in which it is. Lines count from 0."""

    def __init__(self, lines: list[str], line: int, column: int, begun: int, opened: int | None) -> None:
        self.lines = [one[:_MAX_LOOKED_AT] for one in lines]
        self.line = min(line, len(lines) - 1)
        self.column = min(column, _MAX_LOOKED_AT)
        self.begun = begun
        self.opened = opened
        self.here = self.lines[self.line]
        self.rest = self.here[self.column :]
        self.above = next((at for at in range(self.line - 1, -1, -1) if self.lines[at].split("#")[0].strip()), None)

    def explain(self, problem: str, context: str) -> tuple[int, str]:
        """The line, and what is wrong there."""
        conflict = next((at for at, one in enumerate(self.lines) if _CONFLICT.match(one)), None)
        if conflict is not None:
            return conflict, "git has left a conflict here; choose one of the two versions"
        if "\t" in self.here[: len(self.here) - len(self.here.lstrip())] or "\\t" in problem or "tab char" in problem:
            return self.line, "there is a tab; YAML is indented with spaces only"
        odd = next((at for at in (self.line, self.above) if at is not None and _INVISIBLE.search(self.lines[at])), None)
        if odd is not None:
            return odd, "there is a no-break space or another invisible character in this line; type its spaces again"
        foreign = find_foreign(self.here) if re.search(r"[{%]\S", self.here) else None
        if foreign is not None:
            return self.line, foreign
        for words, explained in (
            ("document start", self._document()), ("start any token", self._start()), ("directive", self._directive()),
            ("mapping values", self._second_colon()), ("expected ':'", self._no_colon()),
            ("'-' indicator", self._no_entry()), ("expected key", self._misplaced()), ("block end", self._misplaced()),
            ("invalid Unicode", (self.line, "an escape here, such as \\ud800, stands for no character")),
            ("unknown escape", self._backslash()), ("hex", self._backslash()),
        ):  # fmt: skip
            if words in problem and not ("'-'" in words and self.opened):
                return explained
        if "scanning an alias" in context or "scanning an anchor" in context:
            sign = "*" if "alias" in context else "&"
            return self.line, f'a text that begins with {sign} needs quotes, such as "*" or "groq/*"'
        if "quoted scalar" in context or "double-quoted" in context:
            return self.begun, "the quote that opens here is never closed"
        if "flow" in context:
            return self._bracket()
        if "block collection" in context or "block mapping" in context:
            return self._no_entry() if "collection" in context else self._misplaced()
        if "block scalar" in context:
            return self.begun, "after | or > nothing may stand in the line; the text begins in the next one, indented"
        return self.line, problem

    def _document(self) -> tuple[int, str]:
        if any(_INI.fullmatch(one) for one in self.lines[: self.line + 1]):
            return (
                self.line,
                "it looks like TOML or an INI file; write `key: value`, and members of a section indented below it",
            )
        return self.line, "the document has ended before this line; leave `...`, `---` and what is too much out"

    def _directive(self) -> tuple[int, str]:
        return self.line, "a line can't begin with %; put the text in quotes"

    def _start(self) -> tuple[int, str]:
        odd = next((at for at in (self.line, self.above) if at is not None and _INVISIBLE.search(self.lines[at])), None)
        if odd is not None:
            return odd, "there is a no-break space or another invisible character in this line; type its spaces again"
        foreign = find_foreign(self.rest.split(" ")[0].rstrip(",]}"))
        if foreign is not None:
            return self.line, foreign
        return self.line, f"a value can't begin with {self.rest[:1]}; put it in quotes"

    def _second_colon(self) -> tuple[int, str]:
        if self.above is not None and _NO_SPACE_AFTER_DASH.match(self.lines[self.above]):
            return self.above, "a space is missing after the dash"
        if self.above is not None and _NO_SPACE.match(self.lines[self.above]) and not _TWO_COLONS.match(self.here):
            return self.above, "a space is missing after the colon"
        if _TWO_COLONS.match(self.here):
            return self.line, 'a value that has a colon and a space in it needs quotes: "…: …"'
        if self.above is not None and not _KEY.search(self.lines[self.above]):
            return self.above, "there is no colon in this line; write `key: value`"
        return self.line, "it is indented further than the line above, which has a value already; begin both in the same column"

    def _no_colon(self) -> tuple[int, str]:
        return (
            self.begun,
            "a key is expected here, as in `key: value`; a text of several lines is indented further than its key",
        )

    def _no_entry(self) -> tuple[int, str]:
        return self.line, (
            "this line is no entry of the list above, whose entries begin with `- `; indent it further if it belongs to the "
            "last entry, or less if the list has ended"
        )

    def _misplaced(self) -> tuple[int, str]:
        sign = self.rest[:1]
        if sign and sign in "]}":
            return self.line, f"there is a {sign} too many"
        if sign == ",":
            return self.line, "a comma can't end a value here; leave it out, or put the value in quotes"
        if self.here[: self.column].strip():
            return self.line, "after the closing quote more text follows; put the quotes around all of it"
        return self.line, (
            f"this line begins in column {self.column + 1}, and no line above that it could belong to does; "
            "members of one section begin in the same column"
        )

    def _bracket(self) -> tuple[int, str]:
        begun = self.begun if self.opened is None else self.opened - 1
        sign = next((one for one in self.lines[begun] if one in "[{"), "[")
        if begun != self.line or not self.rest.strip():
            return begun, f"the {sign} that opens here is never closed"
        before = self.here[: self.column].split()
        word = before[-1] if self.rest.startswith(":") and before else self.rest.split()[0]
        return self.line, f"a comma is missing before `{unshielded(word)}`, or a bracket is not closed before it"

    def _backslash(self) -> tuple[int, str]:
        return self.line, "between double quotes a backslash begins an escape; write \\\\ or use single quotes"
