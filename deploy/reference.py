"""Writes the JSON Schema of the configuration, and the page that explains each of its keys.

    make reference

They go to config/kyma-proxy.schema.json and docs/CONFIGURATION.md. Both are made from the structs that a file is read with.
"""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path
from typing import Final

from kyma_proxy.config.units import Secret
from kyma_proxy.dialect.registry import DIALECTS, IMAGE_DIALECTS, endpoints_of
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.kinds import Kind, element_of, is_section
from kyma_proxy.loading.reference.fields import Field, Section, sections
from kyma_proxy.loading.reference.json_schema import json_schema
from kyma_proxy.loading.reference.key import AT_ONCE, EACH_KEY, NEW_CONNECTIONS, REPLACE, RESTART
from kyma_proxy.ops.config_file import SCHEMA_FILE

ROOT: Final = Path(__file__).resolve().parent.parent
_MAX_INTEGER: Final = 2**63 - 1
_UNITS: Final = {
    "duration": "duration", "delay": "duration or `auto`", "size": "size", "usd": "US dollars", "dialect": "",
    "workers": "1 to 64, or `auto`",
}  # fmt: skip
_TITLES: Final = {
    doc.Document: ("The whole file", "Only `providers` and `models` are required."),
    doc.Tls: ("TLS", ""),
    doc.Admin: ("The admin listener", ""),
    doc.Cors: ("Web pages", "[guides/web-pages.md](guides/web-pages.md) explains which pages may call."),
    doc.Accounts: ("Accounts", "[ACCOUNTS.md](ACCOUNTS.md) explains keys, tiers, credits and what a request costs."),
    doc.Dashboard: ("Dashboard", "[guides/dashboard.md](guides/dashboard.md) shows the pages."),
    doc.Signup: ("Sign-up", ""),
    doc.Activity: ("Activity", "[ACCOUNTS.md](ACCOUNTS.md#the-operator) says where the operator sees it."),
    doc.Defaults: ("Defaults", ""),
    doc.Timeouts: ("Timeouts", "The innermost level that has a key decides; `null` turns a timeout off."),
    doc.Limits: ("Limits", "In sizes and in times. The admin listener keeps them too, with 128 connections."),
    doc.Tier: ("Tiers", ""),
    doc.Provider: ("Providers", "[guides/providers.md](guides/providers.md) has recipes: clouds, keys, proxies, sockets."),
    doc.Supports: (
        "What a source takes",
        "The innermost level that has a key decides. [guides/providers.md](guides/providers.md#what-a-source-takes) says more.",
    ),
    doc.ErrorRule: ("Errors that lead to the next source", "All keys that are there must fit, and one must be."),
    doc.Model: ("Models", 'An `id` may be a pattern: `"*"` for all ids, or `"groq/*"` for all that begin so.'),
    doc.Price: ("Prices", "Exact to the nano-dollar. [ACCOUNTS.md](ACCOUNTS.md) says what is charged."),
    doc.ImageRules: ("Image models", ""),
    doc.Source: ("Sources", ""),
    doc.ImageMembers: ("Image requests of a source", "[guides/images.md](guides/images.md) explains image jobs."),
}
_BEGINNING: Final = f"""\
# Configuration

Every key of the configuration, in YAML. `make reference` makes this page from the structs that a file is read with.
`kyma-proxy check FILE` finds every mistake, with its line; `kyma-proxy check FILE --diff` says what would change in a running
gateway, and so does `POST /admin/reload?dry_run=1`. [`config/kyma.yaml`](../config/kyma.yaml) is a whole example, and
`kyma-proxy init` writes a file to begin with.

**Editors** that know YAML complete, explain and check a file whose first line is
`# yaml-language-server: $schema={SCHEMA_FILE}`, as that of the shipped ones is, if the schema lies beside it.
`kyma-proxy init` writes it there, and `kyma-proxy schema > {SCHEMA_FILE}` too.

**Variables.** `${{NAME}}` in a value is the environment's. Within braces and brackets write it in quotes
(`{{api_key: "${{NAME}}"}}`): the gateway reads it without them as well, but an editor does not. A provider whose key is in a
variable that is not set is off; anywhere else such a variable is a mistake.

**Units.** A *duration* has one: `250ms`, `2s`, `1.5m`, `1h`; only `0` needs none. A *size* is a number of bytes, or has one:
`64KiB`, `32MiB`, `1MB`. Money is a number of *US dollars*, or has their sign: `0.50`, `$0.50`. A key that is left out has its
default; `null` is written out.

**Reload.** The gateway reads its file again when that has changed, on SIGHUP and on `POST /admin/reload`. The last column says
what becomes of a changed key:

| | |
|---|---|
| {AT_ONCE} | requests that begin from then on have the new value; those in flight end with the old one |
| {NEW_CONNECTIONS} | connections that are open go on as they are |
| {REPLACE} | the old value stays, and the answer names the key: `kyma-proxy serve --replace` takes it without an outage |
| {RESTART} | the old value stays, and the answer names the key: stop the gateway, and start it again |
| {EACH_KEY} | it depends on the key within |
"""


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([_BEGINNING, *(_chapter(section) for section in sections())])


def schema() -> str:
    """The schema, as text."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _chapter(section: Section) -> str:
    title, about = _TITLES[section.struct]
    places = ", ".join(f"`{path}`" for path in section.paths if path)
    lines = [f"## {title}", "", *([f"At {places}. {about}".rstrip(), ""] if places else [about, ""])]
    lines += [
        "| key | | type | default | example | reload |",
        "|---|---|---|---|---|---|",
        *(_row(section, one) for one in section.fields),
        "",
    ]
    return "\n".join(lines)


def _row(section: Section, field: Field) -> str:
    default = field.key.default or f"`{field.default}`"
    cells = (
        f"`{field.name}`",
        field.key.meaning,
        _endpoints() if field.name == "endpoints" else _type(field.kind),
        "**required**" if field.is_required else default,
        f"`{field.key.example}`",
        field.key.reload,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(kind: Kind) -> str:
    end = ", or `null`" if kind.takes_null else ""
    element = element_of(kind)
    if is_section(kind):
        title = _TITLES[kind.type][0]
        return f"[section](#{title.lower().replace(' ', '-')}){end}"
    if element is not None:
        return f"{'mapping of names to' if typing.get_origin(kind.type) is dict else 'list of'} {_several(element)}{end}"
    return _scalar(kind) + end


def _several(kind: Kind) -> str:
    if is_section(kind):
        return _type(kind).replace("[section]", "[sections]")
    if element_of(kind) is not None:
        return "lists of names"
    if kind.type is typing.Any:
        return "values"
    if typing.get_origin(kind.type) is typing.Literal:
        return f"some of {', '.join(f'`{name}`' for name in typing.get_args(kind.type))}"
    return "texts (secret)" if kind.type is Secret else "texts"


def _scalar(kind: Kind) -> str:
    if kind.unit == "dialect":
        return " or ".join(f"`{name}`" for name in (*DIALECTS, *IMAGE_DIALECTS))
    if kind.unit is not None:
        return _UNITS[kind.unit]
    if typing.get_origin(kind.type) is typing.Literal:
        return " or ".join(f"`{name}`" for name in typing.get_args(kind.type))
    if kind.type is Secret:
        return "text (secret)"
    if kind.type is bool:
        return "`true` or `false`"
    if kind.type in (int, float):
        return ("whole number" if kind.type is int else "number") + _bounds(kind)
    return "text"


def _bounds(kind: Kind) -> str:
    least, most = (None, None) if kind.meta is None else (kind.meta.ge, kind.meta.le)
    if most is not None and most < _MAX_INTEGER:
        return f", {least} to {int(most)}"
    return "" if least is None else f", {least} or more"


def _endpoints() -> str:
    known = dict.fromkeys(key for dialect in (*DIALECTS, *IMAGE_DIALECTS) for key in endpoints_of(dialect))
    return f"list of some of {', '.join(f'`{key}`' for key in known)}, or `null`"


if __name__ == "__main__":
    for path, text in ((ROOT / "config" / SCHEMA_FILE, schema()), (ROOT / "docs" / "CONFIGURATION.md", page())):
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT), file=sys.stdout)
