"""Compiles the path of a request to C with mypyc; where that can't be done, the same files run as they are.

Only a wheel is compiled (`pip install .`); an editable installation and the tests use the plain files.
KYMA_PROXY_PURE=1 leaves the compiling out, and KYMA_PROXY_COMPILED=1 makes it an error if it can't be done.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What runs on every request or piece. Files that declare structs for msgspec to decode stay plain: mypyc keeps no
# annotations, and msgspec reads them. The upstream client is here because it extends a compiled class.
COMPILED = tuple(
    f"proxy/kyma_proxy/{path}.py"
    for path in (
        "accounting/meter", "accounting/own_answers", "accounting/references",
        "accounting/settlement",
        "config/snapshot",
        "core/accounts/accounts", "core/accounts/charging", "core/accounts/estimate",
        "core/accounts/limit_lines", "core/accounts/limits", "core/accounts/measured_bill", "core/accounts/quantities",
        "core/accounts/reservation", "core/accounts/sound_length", "core/accounts/usage",
        "core/exchange",
        "core/http/answer_repeat", "core/http/answers", "core/http/body", "core/http/body_buffer", "core/http/body_pace",
        "core/http/body_shape",
        "core/http/chunks", "core/http/connection_state", "core/http/endpoints", "core/http/headers", "core/http/host",
        "core/http/form", "core/http/form_part",
        "core/http/inbound", "core/http/large_body", "core/http/measured_fields", "core/http/member_names",
        "core/http/member_set", "core/http/repeat",
        "core/http/request_head", "core/http/request_target", "core/http/source_request", "core/http/structure",
        "core/http/web_pages",
        "core/routing/breaker", "core/routing/breaker_table", "core/routing/candidates", "core/routing/circuit",
        "core/routing/failures", "core/routing/history", "core/routing/operators_errors", "core/routing/patterns",
        "core/routing/plan", "core/routing/resolve",
        "core/spelling",
        "dialect/answers/anthropic", "dialect/answers/anthropic_usual", "dialect/answers/document",
        "dialect/answers/ending", "dialect/answers/facts",
        "dialect/answers/last_events", "dialect/answers/openai", "dialect/answers/openai_usual",
        "dialect/answers/passed_chunks", "dialect/answers/reader", "dialect/answers/silence", "dialect/answers/usage",
        "dialect/answers/whole_body",
        "dialect/completion_estimate",
        "dialect/density",
        "dialect/responses/output", "dialect/responses/response", "dialect/responses/stream",
        "dialect/sse", "dialect/usage_filter",
        "gateway",
        "net/downstream/connection", "net/downstream/incoming_body", "net/downstream/intake", "net/downstream/listener",
        "net/downstream/request_reader", "net/downstream/upload",
        "net/inline_coroutine",
        "net/relay/attempts", "net/relay/bodies", "net/relay/body", "net/relay/form_body", "net/relay/large_bodies",
        "net/relay/passthrough", "net/relay/pump",
        "net/relay/translated",
        "net/releases",
        "net/sweeper",
        "net/upstream/client", "net/upstream/connection", "net/upstream/connection_owner", "net/upstream/framing",
        "net/upstream/outflow", "net/upstream/pool", "net/upstream/portions", "net/upstream/response_handler",
        "net/upstream/timers",
        "store/sqlite/charges", "store/sqlite/inbox",
        "telemetry/access_log", "telemetry/counters", "telemetry/recording",
    )
)  # fmt: skip


NOT_COMPILED = Path("build/not_compiled")
"""Why the last build has no compiled modules, in one line, for `make`: pip shows nothing of what a build prints."""


class BuildOrGoWithout(build_ext):
    """Builds the extension modules, all or none, and on all processors."""

    def finalize_options(self) -> None:
        """Build extensions side by side: the many small ones while the large one is compiled."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        """Build; without a compiler or Python's headers, say so and leave nothing half-built behind."""
        try:
            super().run()
        except Exception as error:
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            _go_without(error)


def _go_without(reason: object) -> None:
    """Say why nothing is compiled. Raises SystemExit if a compiled build is required."""
    line = " ".join(str(reason).split())
    if os.environ.get("KYMA_PROXY_COMPILED"):
        raise SystemExit(f"kyma-proxy can't be compiled: {line}")
    NOT_COMPILED.parent.mkdir(exist_ok=True)
    NOT_COMPILED.write_text(line + "\n")
    sys.stderr.write(f"kyma-proxy is built without compiled modules, and a request costs half as much again: {line}\n")


def _missing_for_compiling() -> str:
    """What compiling needs and this machine lacks, or ""."""
    compiler = os.environ.get("CC", sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}); apt-get install gcc python3-dev"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are missing; apt-get install python3-dev"
    return ""


def _link_time_flags() -> tuple[list[str], list[str]]:
    """Flags for the compiler and the linker that leave the optimising to the linker, where the compiler is gcc.

    mypyc writes one large file, which one processor compiles. At link time gcc divides the same program among all of them.
    """
    compiler = os.environ.get("CC", sysconfig.get_config_var("CC") or "cc").split()
    # Python asks for -Wall: to find what is worth a warning in mypyc's code takes gcc three times as long as to read it.
    compiling, linking = ["-flto", "-fno-fat-lto-objects", "-Wno-all"], [f"-flto={os.cpu_count() or 1}", "-O3", "-g0"]
    with tempfile.TemporaryDirectory() as directory:
        source, compiled, linked = (str(Path(directory, name)) for name in ("trial.c", "trial.o", "trial.so"))
        Path(source).write_text("#ifdef __clang__\n#error no gcc\n#endif\nint trial(void) { return 0; }\n")
        try:
            _run(*compiler, "-fPIC", *compiling, "-c", source, "-o", compiled)
            _run(*compiler, "-shared", "-fPIC", *linking, compiled, "-o", linked)
        except (OSError, subprocess.CalledProcessError):
            return [], []
    return compiling, linking


def _run(*line: str) -> None:
    subprocess.run(line, check=True, capture_output=True)  # noqa: S603  (the compiler that Python was built with)


def extensions() -> list[Extension]:
    """The extension modules, where they are wanted."""
    NOT_COMPILED.unlink(missing_ok=True)
    if os.environ.get("KYMA_PROXY_PURE") or not {"bdist_wheel", "build", "build_ext"}.intersection(sys.argv):
        return []
    missing = _missing_for_compiling()
    if missing:
        _go_without(missing)
        return []
    try:
        from mypyc.build import mypycify  # noqa: PLC0415  a plain installation has no need of it

        made = mypycify([*COMPILED], group_name="kyma_proxy", target_dir="build/mypyc", opt_level="3", debug_level="0")
    except (Exception, SystemExit) as error:  # it exits where another version of mypy finds fault with a type
        _go_without(f"mypyc failed ({error})")
        return []
    compiling, linking = _link_time_flags()
    large = next(extension for extension in made if extension.name.endswith("__mypyc"))
    large.extra_compile_args = [*large.extra_compile_args, *compiling]  # not +=: the extensions share one list
    large.extra_link_args = [*large.extra_link_args, *linking]
    return made


def shared_files() -> list[tuple[str, list[str]]]:
    """Where an installation gets the example configurations, and the manual and the completions if they have been made."""
    made = sorted(path for path in Path("share").rglob("*") if path.is_file())
    examples = ("share/kyma-proxy/config", [str(path) for path in sorted(Path("config").glob("*.*"))])
    return [examples, *((str(path.parent), [str(path)]) for path in made)]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOrGoWithout}, data_files=shared_files())
