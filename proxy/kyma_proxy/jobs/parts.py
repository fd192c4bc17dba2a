"""Divides a job for a source that makes fewer pictures in one request, and gathers what its requests bring."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from kyma_proxy.config.snapshot import Source
from kyma_proxy.core.jobs.job import ImageRequest
from kyma_proxy.errors import GatewayError
from kyma_proxy.jobs.provider_client import SourceFailed

_T = TypeVar("_T")


def parts_of(request: ImageRequest, source: Source, n: int) -> list[ImageRequest]:
    """The requests by which a source makes `n` of a job's pictures, each of as many as it makes at once."""
    most = n if source.image is None else source.image.most
    if n <= most:
        return [request if n == request.n else msgspec.structs.replace(request, n=n)]
    return [msgspec.structs.replace(request, n=min(most, n - done)) for done in range(0, n, most)]


async def gather(works: Sequence[Coroutine[Any, Any, _T]]) -> tuple[list[_T], SourceFailed | GatewayError | None]:
    """The results of the parts that went well, and the failure of the others. Raises that if none went well."""
    if len(works) == 1:
        return [await works[0]], None
    results = await asyncio.gather(*works, return_exceptions=True)
    brought: list[_T] = []
    failures: list[BaseException] = []
    for result in results:
        if isinstance(result, BaseException):
            failures.append(result)
        else:
            brought.append(result)
    failure = _failure(failures)
    if failure is not None and not brought:
        raise failure
    return brought, failure


def _failure(failures: list[BaseException]) -> SourceFailed | GatewayError | None:
    """The failure that stands for all: a refusal, after which nobody else need be asked, before a source's failure.

    Raises what is neither.
    """
    of_source: SourceFailed | None = None
    refusal: GatewayError | None = None
    for one in failures:
        if isinstance(one, GatewayError):
            refusal = refusal or one
        elif isinstance(one, SourceFailed):
            of_source = SourceFailed(one.failed, is_undone=one.is_undone and (of_source is None or of_source.is_undone))
        else:
            raise one
    return refusal or of_source
