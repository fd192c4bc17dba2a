"""Compiles providers: their address, and the bytes that begin every request to them. (Contract §3.5, §12.)

A source may add headers and parameters of its own, go through another proxy or have its model in the path, and a provider may
have several keys. Each combination is a `Provider` whose bytes are made here, once, so that no request pays for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from kyma_proxy.config import snapshot as snap
from kyma_proxy.config.origin import Origin, Proxy, Way
from kyma_proxy.dialect.registry import RELAYED, credential_of, default_fields, foreign_fields, version_path
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.credentials import FIELD_VALUE, Keys, Report, find_keys
from kyma_proxy.loading.headers import NO_SECRET, long_secrets, secrets_among
from kyma_proxy.loading.outside_values import OutsideValues, Unavailable
from kyma_proxy.loading.proxies import ENVIRONMENT, parse_proxy, proxy_of_environment
from kyma_proxy.loading.upstream_urls import MODEL, BaseUrl, parse_base_url

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CERTIFICATES: Final = re.compile(r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[\s\x21-\x7e]+?-----END [A-Z0-9 ]+-----")
# The gateway owns these towards a provider (contract §3.5); a configured one would contradict it.
_OWN_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect"})
_NOWHERE: Final = BaseUrl("http", "invalid", 0, None, "")


class _Settings(NamedTuple):
    """The headers and the query of a provider or a source, its proxy (UNSET for the level above), and why it is off."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    proxy: str | msgspec.UnsetType | None
    off: str | None
    places: Mapping[str, str]
    """The path in the file of the proxy, under `proxy`."""


class _Written(NamedTuple):
    """A provider as it is written."""

    entry: doc.Provider
    url: BaseUrl
    authorities: str | None
    keys: Keys
    settings: _Settings


class Providers:
    """The providers of one document. Problems go to `report`, by their path, and what only weakens the gateway to `warn`."""

    def __init__(self, environment: Mapping[str, str], outside: OutsideValues, report: Report, warn: Report) -> None:
        self._environment = environment
        self._outside = outside
        self._report = report
        self._warn = warn
        self._written: dict[str, _Written] = {}
        self._made: dict[str, tuple[snap.Provider, ...]] = {}

    def add(self, entry: doc.Provider, path: str) -> snap.Provider:
        """Compile a provider."""
        url = self._parse_base_url(entry, path)
        settings = self._settings(entry, path)
        keys = find_keys(entry, path, self._outside, self._report)
        self._check_credential(entry, settings, path)
        written = _Written(entry, url, self._authorities(entry, url, path), keys, settings)
        made = self._variants(written, settings, "")
        self._written[entry.name], self._made[entry.name] = written, made
        if made[0].off is not None:
            self._warn(path, f"provider {entry.name} is off: {made[0].off}")
        for warning in keys.warnings:
            self._warn(path, f"provider {entry.name} {warning}")
        return made[0]

    def of_source(self, entry: doc.Source, path: str, model: str) -> tuple[snap.Provider, ...]:
        """The provider of a source with each of its keys; `model` is the id of the source's model, for a warning."""
        written = self._written[entry.provider]
        own = self._settings(entry, path)
        if not self.has_own(entry) and MODEL not in written.url.path:
            return self._made[entry.provider]
        base = written.settings
        has_proxy = not isinstance(own.proxy, msgspec.UnsetType)
        settings = _Settings(
            {**base.headers, **own.headers}, {**base.query, **own.query}, own.proxy if has_proxy else base.proxy,
            base.off or own.off, own.places if has_proxy else base.places,
        )  # fmt: skip
        if own.off is not None:
            self._warn(path, f"the source {entry.model} of model {model} is off: {own.off}")
        return self._variants(written, settings, entry.model, given=own.headers)

    @staticmethod
    def has_own(entry: doc.Source) -> bool:
        """True if a source is reached otherwise than its provider."""
        return bool(entry.headers or entry.query) or not isinstance(entry.proxy, msgspec.UnsetType)

    def _variants(
        self, written: _Written, settings: _Settings, model: str, *, given: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[snap.Provider, ...]:
        """The provider with each key; `given` are the headers that win over the credential."""
        entry, url, keys = written.entry, written.url, written.keys
        proxy, proxy_secrets = self._proxy(settings, url)
        way = Way(written.authorities, url.socket, proxy)
        origin = Origin(url.scheme, url.host, url.port, way if any(way) else None)
        base_path = url.path_for(model) if model else url.path
        fixed: dict[str, str] = {"host": origin.authority, "accept-encoding": "identity"}
        if proxy is not None and url.scheme == "http":  # RFC 9112 §3.2.2: a proxy reads the whole URL
            base_path = f"http://{origin.authority}{base_path}"
            fixed |= {} if proxy.authorization is None else {"proxy-authorization": proxy.authorization}
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in settings.query.items())
        made = []
        for key in keys.texts or (None,):
            own = dict(settings.headers)
            if key is not None:
                name, value = self._credential(entry, key)
                if name not in given:
                    own[name] = value
            secrets = tuple(dict.fromkeys((
                *secrets_among({**own, **settings.query}), *long_secrets((key or "", *proxy_secrets)),
            )))  # fmt: skip
            own_names = frozenset(name.encode("ascii", "replace") for name in own)
            lines = "".join(f"{name}: {value}\r\n" for name, value in {**fixed, **own}.items())
            made.append(
                snap.Provider(
                    name=entry.name,
                    dialect=entry.dialect,
                    origin=origin,
                    base_path=base_path.encode("ascii", "replace"),
                    query=query.encode(),
                    targets=_targets(base_path, query),
                    header_lines=lines.encode("ascii", "replace"),
                    own_names=own_names,
                    own_and_foreign_names=own_names | foreign_fields(entry.dialect),
                    default_fields=tuple([one for one in default_fields(entry.dialect) if one[0] not in own_names]),
                    off=keys.off or settings.off,
                    warm_connections=entry.warm_connections,
                    keep_alive=entry.keep_alive,
                    secrets=secrets,
                    shortest_secret=min(map(len, secrets), default=NO_SECRET),
                    keys=max(1, len(keys.texts)),
                )
            )
        return tuple(made)

    # ---- the parts of an entry

    def _parse_base_url(self, entry: doc.Provider, path: str) -> BaseUrl:
        try:
            url = parse_base_url(entry.base_url).with_version(version_path(entry.dialect))
        except ValueError as error:
            self._report(f"{path}.base_url", str(error))
            return _NOWHERE
        if entry.ca_file is not None and url.scheme != "https":
            self._report(f"{path}.ca_file", "has no effect, as base_url is not https")
        return url

    def _authorities(self, entry: doc.Provider, url: BaseUrl, path: str) -> str | None:
        if entry.ca_file is None or url.scheme != "https":
            return None
        try:
            text = self._outside.text_of(entry.ca_file)
        except Unavailable as error:
            self._report(f"{path}.ca_file", f"{entry.ca_file} {error}")
            return None
        found = "\n".join(match[0] for match in _CERTIFICATES.finditer(text))
        if not found:
            self._report(f"{path}.ca_file", f"{entry.ca_file} holds no certificate in PEM")
        return found

    def _settings(self, entry: doc.Provider | doc.Source, path: str) -> _Settings:
        """The headers, the query and the proxy of an entry; one that names a variable that is not set switches it off."""
        missing: list[str] = []
        headers: dict[str, str] = {}
        for name, secret in entry.headers.items():
            value = secret.reveal()
            if secret.missing:
                missing.append(secret.missing)
            if not _TOKEN.fullmatch(name) or not (secret.missing or FIELD_VALUE.fullmatch(value)):
                self._report(f"{path}.headers.{name}", "is not a valid header: printable ASCII only, and no space in the name")
            elif name.lower() in headers:
                self._report(f"{path}.headers.{name}", "is there twice; the case of a header's name makes no difference")
            elif name.lower() in _OWN_HEADERS:
                self._report(f"{path}.headers.{name}", "is set by the gateway itself; leave it out")
            elif not secret.missing:
                headers[name.lower()] = value
        query: dict[str, str] = {}
        for name, secret in entry.query.items():
            if secret.missing:
                missing.append(secret.missing)
            if not name:
                self._report(f"{path}.query", "has a parameter without a name")
            query[name] = secret.reveal()
        proxy = entry.proxy
        written = proxy.reveal() if proxy is not None and not isinstance(proxy, msgspec.UnsetType) else proxy
        if proxy is not None and not isinstance(proxy, msgspec.UnsetType) and proxy.missing:
            missing.append(proxy.missing)
            written = None
        off = f"the environment variable {missing[0]} is not set" if missing else None
        return _Settings(headers, query, written, off, {"proxy": f"{path}.proxy"})

    def _check_credential(self, entry: doc.Provider, settings: _Settings, path: str) -> None:
        name, _ = self._credential(entry, "")
        if entry.api_key_header is not None and not _TOKEN.fullmatch(entry.api_key_header):
            self._report(f"{path}.api_key_header", "is not a valid name of a header")
        elif name in _OWN_HEADERS:
            self._report(f"{path}.api_key_header", "is set by the gateway itself")
        way = next((one for one in ("api_key", "api_keys", "api_key_file", "api_key_command") if getattr(entry, one)), None)
        if way is not None and name in settings.headers and not (entry.api_key and entry.api_key.missing):
            self._report(f"{path}.headers.{name}", f"is also set by {way}; leave one of the two out")

    @staticmethod
    def _credential(entry: doc.Provider, key: str) -> tuple[str, str]:
        if entry.api_key_header is not None:
            return entry.api_key_header.lower(), key
        return credential_of(entry.dialect)(key)

    def _proxy(self, settings: _Settings, url: BaseUrl) -> tuple[Proxy | None, tuple[str, ...]]:
        written, path = settings.proxy, settings.places["proxy"]
        if isinstance(written, msgspec.UnsetType) or not written:
            return None, ()
        if url.socket is not None:
            self._report(path, "has no effect, as base_url is a unix socket")
            return None, ()
        is_asked_for = written == ENVIRONMENT
        found = proxy_of_environment(self._environment, url.scheme, url.host, url.port) if is_asked_for else written
        if found is None:
            return None, ()
        try:
            return parse_proxy(found)
        except ValueError as error:
            self._report(path, f"the environment's proxy can't be used: {error}" if is_asked_for else str(error))
            return None, ()


def with_other_keys(source: snap.Source, others: tuple[snap.Provider, ...]) -> snap.Source:
    """The source, and beside it the same with each of the other keys of its provider."""
    if not others:
        return source
    sources = [source]
    for number, provider in enumerate(others, 2):
        sources.append(replace(source, provider=provider, key=f"{source.key} key {number}", key_number=number))
    keys = frozenset(one.key for one in sources)
    first, *rest = [replace(one, siblings=keys - {one.key}) for one in sources]
    return replace(first, other_keys=tuple(rest))


def _targets(base_path: str, query: str) -> Mapping[bytes, bytes]:
    end = f"?{query}".encode() if query else b""
    start = base_path.encode("ascii", "replace")
    return MappingProxyType({endpoint.path: b"%b%b%b" % (start, endpoint.path, end) for endpoint in RELAYED.values()})
