"""Compiles a `Document` into a `Snapshot`, and finds every mistake of meaning in one pass.

Dangling names, duplicates, invalid addresses: each is a problem with the path and line of its cause. What only weakens the
gateway is a warning: a provider without its key is off, for example. (Contract §12.)
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import msgspec

from kyma_proxy.config import snapshot as snap
from kyma_proxy.config.addresses import parse_address
from kyma_proxy.config.problems import ConfigError, Problem, in_order
from kyma_proxy.config.substitutions import Substitutions
from kyma_proxy.core.accounts.quantities import is_measured
from kyma_proxy.dialect.registry import DIALECTS, IMAGE_DIALECTS, endpoints_of
from kyma_proxy.loading import document as doc
from kyma_proxy.loading.activity import compile_activity
from kyma_proxy.loading.body_members import compile_body, find_body_problems
from kyma_proxy.loading.credentials import command_of
from kyma_proxy.loading.dashboard import compile_dashboard
from kyma_proxy.loading.error_rules import compile_error_rules, find_empty_rules
from kyma_proxy.loading.headers import find_pass_problem, merge_pass_headers
from kyma_proxy.loading.images import compile_image_members, compile_image_rules, find_image_problems
from kyma_proxy.loading.outside_values import NoOutsideValues, OutsideValues
from kyma_proxy.loading.patterns import compile_patterns, find_pool_problems, is_pattern, name_models, with_pool
from kyma_proxy.loading.prices import compile_price, find_price_problems
from kyma_proxy.loading.providers import Providers, with_other_keys
from kyma_proxy.loading.reading import Read, read_document
from kyma_proxy.loading.references import check_aliases, check_fallbacks
from kyma_proxy.loading.routes import compile_routes, separated
from kyma_proxy.loading.supports import compile_supports
from kyma_proxy.loading.surroundings import check_addresses, check_files, check_something_is_on, check_workers
from kyma_proxy.loading.tiers import SHIPPED_TIERS, compile_tiers
from kyma_proxy.loading.upstream_urls import MODEL
from kyma_proxy.loading.web_pages import compile_origins, find_host_problem, find_origin_problem

_present: Final = doc.present
_MIN_PROBE_AFTER_S: Final = 1.0
_SIGNUP_CREDITS: Final = Decimal("0.50")


def load(
    text: str, environment: Mapping[str, str], outside: OutsideValues | None = None, *, to_serve: bool = False
) -> snap.Snapshot:
    """The snapshot of a configuration file's text. Raises ConfigError, which holds every problem.

    `outside` reads files and runs commands; without it there are none. `to_serve`: it is a problem if that can't be done here.
    """
    substitutions = Substitutions({}, {})

    def shown(found: Iterable[Problem]) -> list[Problem]:
        return [one._replace(message=substitutions.shown(one.message)) for one in found]

    read = read_document(text, environment, substitutions)
    try:
        if read.document is None:
            raise ConfigError(read.problems)
        version = hashlib.sha256(text.encode()).hexdigest()[:12]
        compiler = _Compiler(read.document, read, environment, outside or NoOutsideValues())
        snapshot = compiler.compile(version, to_serve=to_serve)
    except ConfigError as error:
        raise ConfigError(shown(error.problems), shown(in_order(read.warnings))) from None
    return replace(snapshot, warnings=tuple(shown(in_order(read.warnings))), substitutions=substitutions)


class _Compiler:
    """Compiles one document in one pass. The methods are in the order of their calls."""

    def __init__(
        self, document: doc.Document, read: Read, environment: Mapping[str, str], outside: OutsideValues
    ) -> None:  # fmt: skip
        self.document = document
        self.lines = read.lines
        self.problems = read.problems
        self.warnings = read.warnings
        self.unusable = read.unusable
        self.outside = outside
        outside.run(dict.fromkeys(command for _, one in _present(document.providers) if (command := command_of(one))))
        self.providers = Providers(environment, outside, self._report, self._warn)

    def compile(self, version: str, *, to_serve: bool) -> snap.Snapshot:
        document = self.document
        self._check_unique("providers", "name", [(at, provider.name) for at, provider in _present(document.providers)])
        self._check_unique("models", "id", [(at, model.id) for at, model in _present(document.models)])
        providers = {
            entry.name: self._compile_provider(entry, f"providers[{at}]") for at, entry in _present(document.providers)
        }
        models = {entry.id: self._compile_model(entry, f"models[{at}]", providers) for at, entry in _present(document.models)}
        patterns = compile_patterns(models, [entry for _, entry in _present(document.models)])
        substitutes = [one for _, names in document.fallbacks.items() for _, one in _present(names)]
        models |= name_models((*document.aliases.values(), *document.fallbacks, *substitutes), models, patterns)
        routes, pattern_routes = separated(compile_routes(models, document.fallbacks), [one.model.id for one in patterns])
        entries = tuple(models.values())
        models = {name: model for name, model in models.items() if not is_pattern(name)}
        check_aliases(document, models, self._report, self._report_unknown)
        check_fallbacks(document, models, [one.model.id for one in patterns], self._report, self._report_unknown)
        if document.defaults.probe_after is not None and document.defaults.probe_after < _MIN_PROBE_AFTER_S:
            self._report(
                "defaults.probe_after",
                f"must be {_MIN_PROBE_AFTER_S:g}s or more, as every health check is paid for; null is off",
            )
        result = snap.Snapshot(
            version=version,
            listen=self._parse_address(document.listen, "listen"),
            tls=snap.Tls(document.tls.certificate, document.tls.key) if document.tls else None,
            admin=self._compile_admin(document.admin),
            access_log=document.access_log,
            workers=document.workers or self.outside.processors(),
            asks_usage=document.usage == "ask",
            shutdown_delay=document.shutdown_delay,
            drain=document.drain,
            cors_origins=compile_origins(self._checked("cors.origins", document.cors.origins, find_origin_problem)),
            hosts=frozenset(self._checked("hosts", document.hosts, find_host_problem) or ()),
            accounts=self._compile_accounts(document.accounts),
            activity=compile_activity(document, self._report, self._warn),
            dashboard=compile_dashboard(document, self._report),
            max_tokens=document.defaults.max_tokens,
            hold=document.defaults.hold,
            probe_after=document.defaults.probe_after,
            limits=snap.Limits(**msgspec.structs.asdict(document.limits)),
            tiers=SHIPPED_TIERS if document.tiers is None else compile_tiers(_present(document.tiers), self._report),
            providers=MappingProxyType(providers),
            models=MappingProxyType(models),
            entries=entries,
            aliases=MappingProxyType(dict(document.aliases)),
            fallbacks=MappingProxyType(dict(document.fallbacks)),
            routes=routes,
            patterns=patterns,
            pattern_routes=pattern_routes,
            warnings=(),
        )
        check_addresses(document, result, self._report, self._warn)
        check_workers(document, result, self._report)
        if to_serve:
            check_files(document, result, self.outside, self._report)
        if to_serve and not self.problems:
            check_something_is_on(document, result, self._report, self._warn)
        if self.problems:
            raise ConfigError(self.problems)
        return result

    def _compile_provider(self, entry: doc.Provider, path: str) -> snap.Provider:
        self._check_endpoints(entry.endpoints, entry.dialect, f"{path}.endpoints")
        self._check_pass_headers(entry.pass_headers, path)
        for where, what in (*find_empty_rules(_present(entry.move_on)), *find_body_problems(entry.body)):
            self._report(f"{path}.{where}", what)
        return self.providers.add(entry, path)

    def _check_pass_headers(self, names: tuple[str, ...], path: str) -> None:
        for at, name in _present(names):
            problem = find_pass_problem(name, has_accounts=self.document.accounts.required)
            if problem is not None:
                self._report(f"{path}.pass_headers[{at}]", f"{name} {problem}")

    def _compile_model(self, written: doc.Model, path: str, providers: Mapping[str, snap.Provider]) -> snap.Model:
        has_accounts = self.document.accounts.required
        for where, what in find_pool_problems(written, has_accounts=has_accounts, has_pool=f"{path}.pool" in self.lines):
            self._report(f"{path}.{where}" if where else path, what)
        if written.provider is None or written.provider in providers:
            entry = with_pool(written)
        else:
            entry = written
            self._report_unknown(f"{path}.provider", "provider", written.provider, providers)
        pool = self._compile_sources(entry.pool or (), f"{path}.pool", entry, providers)
        reserve = self._compile_sources(entry.reserve, f"{path}.reserve", entry, providers)
        if pool and not any(source.weight for source in pool):
            self._report(f"{path}.pool", "every weight is 0, so no source would ever be chosen")
        sources = (*pool, *reserve)
        price = compile_price(entry.price, [source.provider.dialect for source in sources])
        model = snap.Model(
            id=entry.id,
            counted_as=entry.id,
            name=entry.name or entry.id,
            owned_by=entry.owned_by,
            created=_unix_time(entry.created) if self._is_date(entry.created, f"{path}.created") else 0,
            context_window=entry.context_window,
            max_output_tokens=entry.max_output_tokens,
            input_modalities=entry.input_modalities,
            output_modalities=entry.output_modalities,
            supports_tools=entry.supports_tools,
            supports_caching=entry.supports_caching or entry.price.cached_input is not None,
            release_stage=entry.release_stage,
            price=price,
            policy=entry.policy or self.document.defaults.policy,
            hedge_after=self.document.defaults.hedge_after
            if isinstance(entry.hedge_after, msgspec.UnsetType)
            else entry.hedge_after,
            pool=pool,
            reserve=reserve,
            image=compile_image_rules(entry.image),
        )
        for source in sources:
            if (source.provider.dialect in IMAGE_DIALECTS) != model.is_image:
                wanted = " or ".join(IMAGE_DIALECTS if model.is_image else DIALECTS)
                self._report(
                    path, f"provider {source.provider.name} speaks {source.provider.dialect}; this model needs {wanted}"
                )
        parts = (("pool", entry.pool or ()), ("reserve", entry.reserve))
        placed = [(f"{part}[{at}]", source) for part, sources in parts for at, source in _present(sources)]
        for where, what in (*find_image_problems(entry.image, placed, model), *find_price_problems(entry.price, model)):
            self._report(f"{path}.{where}", what)
        if (
            has_accounts
            and not is_pattern(entry.id)
            and not is_measured(price)
            and None in ((price.image,) if model.is_image else (price.input, price.output))
        ):
            what = "an image" if model.is_image else "input or output"
            self._warn(path, f"model {model.id} has no price for {what}, so it is free; write 0 if that is meant")
        if sources and all(source.provider.off for source in sources):
            self._warn(path, f"model {model.id} has no source: all its providers are off")
        return model

    def _compile_sources(
        self, entries: tuple[doc.Source, ...], path: str, model: doc.Model, providers: Mapping[str, snap.Provider]
    ) -> tuple[snap.Source, ...]:
        sources = []
        for at, entry in _present(entries):
            if provider := providers.get(entry.provider):
                self._check_pass_headers(entry.pass_headers, f"{path}[{at}]")
                for where, what in (*find_empty_rules(_present(entry.move_on)), *find_body_problems(entry.body)):
                    self._report(f"{path}[{at}].{where}", what)
                self._check_endpoints(entry.endpoints, provider.dialect, f"{path}[{at}].endpoints")
                sources.append(self._compile_source(entry, f"{path}[{at}]", model))
            else:
                self._report_unknown(f"{path}[{at}].provider", "provider", entry.provider, providers)
        return tuple(sources)

    def _compile_source(self, entry: doc.Source, path: str, model: doc.Model) -> snap.Source:
        """A source, with each of its provider's keys. One that is reached otherwise than others has a breaker of its own."""
        written = next(one for _, one in _present(self.document.providers) if one.name == entry.provider)
        variants = self.providers.of_source(entry, path, model.id)
        provider = variants[0]
        levels = (self.document.defaults.timeouts, written.timeouts, entry.timeouts)
        reasoning = entry.reasoning_field or written.reasoning_field
        takes = compile_supports(written, model.supports, entry)
        parser = entry.reasoning_parser or written.reasoning_parser
        calls_need = entry.calls_need or written.calls_need
        of_dialect = endpoints_of(provider.dialect)
        if entry.model.endswith("*") and MODEL in written.base_url:
            self._report(f"{path}.model", f"has a `*`, and the base URL of {written.name} needs the name of one model")
        key = f"{provider.name} {entry.model}"
        if self.providers.has_own(entry):
            key += f" of {model.id} {path.rpartition('.')[2]}"
        source = snap.Source(
            key=key,
            endpoints=frozenset(entry.endpoints or written.endpoints or of_dialect),
            main_endpoint=of_dialect[0],
            provider=provider,
            model=entry.model,
            model_json=msgspec.json.encode(entry.model),
            weight=entry.weight,
            timeouts=_innermost_timeouts(levels),
            stream_usage=entry.stream_usage,
            max_tokens_field=entry.max_tokens_field or written.max_tokens_field,
            reasoning_field=None if reasoning == "none" else reasoning,
            supports=takes.supports,
            supports_by_model=takes.by_model,
            reasoning_parser=None if parser == "none" else parser,
            calls_need=None if calls_need == "nothing" else calls_need,
            image=compile_image_members(entry.image, provider.dialect),
            move_on=compile_error_rules(rule for _, rule in _present((*entry.move_on, *written.move_on))),
            pass_headers=merge_pass_headers(name for _, name in _present((*written.pass_headers, *entry.pass_headers))),
            body=compile_body(written.body, entry.body),
        )
        return with_other_keys(source, variants[1:])

    def _check_endpoints(self, endpoints: tuple[str, ...] | None, dialect: str, path: str) -> None:
        known = endpoints_of(dialect)
        for at, endpoint in _present(endpoints or ()):
            if endpoint not in known:
                self._report(f"{path}[{at}]", f"{dialect} has no endpoint {endpoint}; use some of {', '.join(known)}")

    def _compile_admin(self, admin: doc.Admin | None) -> snap.Admin | None:
        if admin is None:
            return None
        token = admin.token
        if token is not None and token.missing:
            self._warn("admin.token", f"the admin API is off: the environment variable {token.missing} is not set")
            token = None
        if token is not None and len(token.reveal()) < 16:
            self._report(
                "admin.token", "is too short to be a secret; use 16 characters or more, e.g. of `openssl rand -hex 24`"
            )
        return snap.Admin(self._parse_address(admin.listen, "admin.listen"), token)

    def _compile_accounts(self, accounts: doc.Accounts) -> snap.Accounts:
        scheme, _, path = accounts.database.partition(":")
        if scheme != "sqlite" or not path or "\0" in path:
            written = "" if path or scheme in ("", "sqlite") else f"; write sqlite:{scheme}"
            self._report("accounts.database", f"must be sqlite:FILE, such as sqlite:/var/lib/kyma/kyma.db{written}")
        if accounts.signup.enabled and not accounts.required:
            self._warn("accounts.signup", "accounts.signup has no effect while accounts.required is false")
        bonus = _SIGNUP_CREDITS if accounts.signup.credits is None else accounts.signup.credits
        return snap.Accounts(
            required=accounts.required,
            database=path,
            signup=accounts.signup.enabled,
            signup_credits=int(bonus * snap.NANO),
            signups_per_hour=accounts.signup.per_hour,
            top_up=accounts.top_up,
            hold_tokens=accounts.hold_tokens,
        )

    def _checked(
        self, path: str, entries: tuple[str, ...] | None, find_problem: Callable[[str], str | None]
    ) -> list[str] | None:
        """The entries of a list of names; each problem is reported. None stays None."""
        if entries is None:
            return None
        for at, entry in _present(entries):
            problem = find_problem(entry)
            if problem is not None:
                self._report(f"{path}[{at}]", problem)
        return [entry for _, entry in _present(entries)]

    def _parse_address(self, text: str, path: str) -> snap.Address:
        try:
            return parse_address(text)
        except ValueError as error:
            self._report(path, str(error))
            return snap.TcpAddress("", 0)

    def _is_date(self, text: str | None, path: str) -> bool:
        try:
            return text is not None and bool(datetime.date.fromisoformat(text))
        except ValueError:
            self._report(path, "is not a date such as 2026-04-01")
            return False

    def _check_unique(self, section: str, member: str, names: Iterable[tuple[int, str]]) -> None:
        seen: set[str] = set()
        for at, name in names:
            if name in seen:
                self._report(f"{section}[{at}].{member}", f"{name} is there twice")
            seen.add(name)

    def _report_unknown(self, path: str, what: str, name: str, names: Iterable[str]) -> None:
        if name in self.unusable:  # an entry has this name, and a problem of its own
            return
        close = difflib.get_close_matches(name, [*names, *self.unusable], n=1)
        self._report(path, f"there is no {what} {name}" + (f"; did you mean {close[0]}?" if close else ""))

    def _report(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, self._line_of(path), message))

    def _warn(self, path: str, message: str) -> None:
        self.warnings.append(Problem(path, self._line_of(path), message))

    def _line_of(self, path: str) -> int:
        """The line of a path, or of the nearest above it that is in the file."""
        place = path
        while place and place not in self.lines:
            place = re.sub(r"(\.[^.\[]+|\[\d+\])$", "", place) if re.search(r"[.\[]", place) else ""
        return self.lines.get(place, 0)


def _innermost_timeouts(levels: Iterable[doc.Timeouts]) -> snap.Timeouts:
    """The timeouts of a source: for each, the innermost level that sets it decides."""
    named: dict[str, float | None] = {}
    for level in levels:
        for name in level.__struct_fields__:
            value = getattr(level, name)
            if value is not msgspec.UNSET:
                named[name] = value or None
    return snap.Timeouts(**named)


def _unix_time(date: str | None) -> int:
    return (datetime.date.fromisoformat(date or "1970-01-01") - datetime.date(1970, 1, 1)).days * 86400
