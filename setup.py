"""Compiles the path of a request to C with mypyc; where that can't be done, the same files run as they are.

Only a wheel is compiled (`pip install .`); an editable installation and the tests use the plain files.
KYMA_PROXY_PURE=1 leaves the compiling out.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What runs on every request or piece. Files that declare structs for msgspec to decode stay plain: mypyc keeps no
# annotations, and msgspec reads them. The upstream client is here because it extends a compiled class.
COMPILED = tuple(
    f"proxy/kyma_proxy/{path}.py"
    for path in (
        "accounting/meter", "accounting/own_answers",
        "accounting/settlement",
        "core/accounts/accounts", "core/accounts/charging", "core/accounts/estimate", "core/accounts/limits",
        "core/accounts/reservation", "core/accounts/usage",
        "core/exchange",
        "core/http/answers", "core/http/body", "core/http/body_pace", "core/http/connection_state", "core/http/headers",
        "core/http/host", "core/http/inbound", "core/http/large_body", "core/http/member_names", "core/http/repeat",
        "core/http/request_head", "core/http/request_target", "core/http/source_request", "core/http/structure",
        "core/http/web_pages",
        "core/routing/breaker", "core/routing/breaker_table", "core/routing/candidates", "core/routing/circuit",
        "core/routing/failures", "core/routing/history", "core/routing/operators_errors", "core/routing/patterns",
        "core/routing/plan", "core/routing/resolve",
        "core/spelling",
        "dialect/answers/anthropic", "dialect/answers/document", "dialect/answers/ending", "dialect/answers/facts",
        "dialect/answers/openai",
        "dialect/answers/reader", "dialect/answers/usage",
        "dialect/density",
        "dialect/sse",
        "gateway",
        "net/downstream/connection", "net/downstream/listener", "net/downstream/request_reader",
        "net/inline_coroutine",
        "net/relay/attempts", "net/relay/bodies", "net/relay/body", "net/relay/large_bodies",
        "net/relay/passthrough", "net/relay/pump",
        "net/relay/translated",
        "net/sweeper",
        "net/upstream/client", "net/upstream/connection", "net/upstream/connection_owner", "net/upstream/framing",
        "net/upstream/pool", "net/upstream/portions", "net/upstream/response_handler",
        "telemetry/counters", "telemetry/recording",
    )
)  # fmt: skip


class BuildOrGoWithout(build_ext):
    """Builds the extension modules, all or none."""

    def run(self) -> None:
        """Build; without a compiler or Python's headers, say so and leave nothing half-built behind."""
        try:
            super().run()
        except Exception as error:
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            sys.stderr.write(
                f"kyma-proxy is built without compiled modules, and a request costs half as much again: {error}\n"
                "With gcc and Python's headers (apt-get install gcc python3-dev) they are compiled.\n"
            )


def extensions() -> list[Extension]:
    """The extension modules, where they are wanted."""
    if os.environ.get("KYMA_PROXY_PURE") or not {"bdist_wheel", "build", "build_ext"}.intersection(sys.argv):
        return []
    try:
        from mypyc.build import mypycify  # noqa: PLC0415  a plain installation has no need of it

        return mypycify([*COMPILED], group_name="kyma_proxy", target_dir="build/mypyc", opt_level="3")
    except (Exception, SystemExit) as error:  # it exits where another version of mypy finds fault with a type
        sys.stderr.write(f"kyma-proxy is built without compiled modules: mypyc failed ({error})\n")
        return []


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOrGoWithout})
