"""LiteLLM's proxy, in Python: one worker, no database, no key.

It would fetch prices, and more, from the network when it starts; its own copies are used instead. It ends an answer whose
events say the same a hundred times in a row, as the bench's do, so that limit is lifted. Events are parsed and written
anew, with members that it doesn't know kept. It logs errors only, as it recommends for production, and so keeps no access
log. Its server is uvicorn, its default: Granian, which it offers too, and uvicorn's parser in C made no difference
outside the noise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.systems.contract import Place, System
from bench.systems.programs import HOW_TO_GET_PEERS, python_of, release, room

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
    """One worker of its proxy."""

    name: str = _NAME
    title: str = "LiteLLM"
    how_to_get: str = HOW_TO_GET_PEERS
    patience_s: float = 90.0

    def command(self) -> Sequence[str] | None:
        """Its command, in its own environment."""
        python = python_of(_NAME)
        return (str(room(_NAME) / "bin" / "litellm"),) if python.exists() else None

    def version(self) -> str:
        """The package's."""
        return release(_NAME)

    def prepare(self, home: Path, port: int, place: Place) -> list[str]:
        """One file, which names each model."""
        settings: dict[str, Any] = {"telemetry": False, "set_verbose": False, "num_retries": 0, "request_timeout": 300}
        if place.tls is not None:
            settings["ssl_verify"] = str(place.tls)
        document = {
            "model_list": [
                {
                    "model_name": model,
                    "litellm_params": {"model": f"openai/{model}", "api_base": f"{place.provider}/v1", "api_key": "bench"},
                }
                for model in place.all_models
            ],
            "litellm_settings": settings,
            "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
        }
        path = home / "litellm.yaml"
        path.write_text(json.dumps(document))  # JSON is YAML
        return ["--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]

    def environment(self, place: Place) -> dict[str, str]:
        """Its own copies of what it would fetch; only errors are logged; events may be alike."""
        return (
            os.environ
            | dict.fromkeys(_LOCAL, "True")
            | {"LITELLM_LOG": "ERROR", "REPEATED_STREAMING_CHUNK_LIMIT": "1000000000", "LITELLM_TELEMETRY": "False"}
        )
