"""Checks that aliases and fallbacks refer to models that exist. (Contract §12.)"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from kyma_proxy.config.snapshot import Model
from kyma_proxy.loading.document import Document, present

Report = Callable[[str, str], None]
"""Takes a path and what is wrong there."""
ReportUnknown = Callable[[str, str, str, Iterable[str]], None]
"""Takes a path, what is named there, the name, and the names that exist."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


def check_aliases(document: Document, models: Mapping[str, Model], report: Report, report_unknown: ReportUnknown) -> None:
    """Report every alias that is no name, or hides a model, or stands for none."""
    for alias, target in document.aliases.items():
        if not _NAME.fullmatch(alias):
            report(f"aliases.{alias}", "is not a valid name: at most 128 letters, digits and ._:/-")
        if alias in models:
            report(f"aliases.{alias}", "is also the id of a model; an alias needs a name of its own")
        if target not in models:
            report_unknown(f"aliases.{alias}", "model", target, models)


def check_fallbacks(
    document: Document, models: Mapping[str, Model], patterns: Collection[str], report: Report, report_unknown: ReportUnknown
) -> None:
    """Report every fallback whose model or substitute does not exist or does not fit. A pattern may have substitutes too."""
    for model, substitutes in document.fallbacks.items():
        if model not in models and model not in patterns:
            report_unknown(f"fallbacks.{model}", "model", model, models)
        for at, substitute in present(substitutes):
            path = f"fallbacks.{model}[{at}]"
            if substitute == model:
                report(path, "a model can't be its own substitute")
            elif substitute not in models:
                report_unknown(path, "model", substitute, models)
            elif substitute in substitutes[:at]:
                report(path, f"{substitute} is there twice")
            elif (model in models or model in patterns) and models[substitute].is_image != _is_image(model, models):
                report(path, "a text model and an image model can't be substitutes for each other")


def _is_image(model: str, models: Mapping[str, Model]) -> bool:
    return model in models and models[model].is_image
