"""LiteLLM's proxy, in Python: one worker, no database, no key.

At its start it would fetch prices and more from the network; its local copies are used instead. It ends an answer with a
hundred equal events in a row, like the bench's answers, so that limit is raised. It parses events and serialises them
again, and keeps unknown members. It logs errors only, as its documentation recommends for production, so it has no access
log. Its server is uvicorn, the default: Granian, which it also offers, and uvicorn's C parser made no difference outside
the noise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.systems.contract import Deployment, System
from bench.systems.programs import INSTALL_HINT, install_directory, package_version, venv_python

_NAME: Final = "litellm"
_LOCAL: Final = (
    "LITELLM_LOCAL_MODEL_COST_MAP",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS",
    "LITELLM_LOCAL_BLOG_POSTS",
    "LITELLM_LOCAL_POLICY_TEMPLATES",
    "DISABLE_ADMIN_UI",
    "NO_DOCS",
    "NO_REDOC",
)


class LiteLLM(System, frozen=True, kw_only=True):
    """LiteLLM's proxy with one worker."""

    name: str = _NAME
    title: str = "LiteLLM"
    install_hint: str = INSTALL_HINT
    start_timeout_s: float = 90.0

    def command(self) -> Sequence[str] | None:
        """Its command, in its own virtual environment."""
        python = venv_python(_NAME)
        return (str(install_directory(_NAME) / "bin" / "litellm"),) if python.exists() else None

    def version(self) -> str:
        """The version of the package."""
        return package_version(_NAME)

    def prepare(self, home: Path, port: int, deployment: Deployment) -> list[str]:
        """One file, which lists each model."""
        settings: dict[str, Any] = {"telemetry": False, "set_verbose": False, "num_retries": 0, "request_timeout": 300}
        if deployment.tls is not None:
            settings["ssl_verify"] = str(deployment.tls)
        document = {
            "model_list": [
                {
                    "model_name": model,
                    "litellm_params": {"model": f"openai/{model}", "api_base": f"{deployment.provider}/v1", "api_key": "bench"},
                }
                for model in deployment.all_models
            ],
            "litellm_settings": settings,
            "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
        }
        path = home / "litellm.yaml"
        path.write_text(json.dumps(document))  # JSON is YAML
        return ["--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]

    def environment(self, deployment: Deployment) -> dict[str, str]:
        """Local copies instead of downloads, a log of errors only, and no limit of equal events."""
        return (
            os.environ
            | dict.fromkeys(_LOCAL, "True")
            | {"LITELLM_LOG": "ERROR", "REPEATED_STREAMING_CHUNK_LIMIT": "1000000000", "LITELLM_TELEMETRY": "False"}
        )
