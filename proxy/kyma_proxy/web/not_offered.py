"""Explains which of OpenAI's endpoints are not offered, why, and what serves in their place."""

from __future__ import annotations

from typing import Final

_CONTENT: Final = "the gateway stores no content"
_CONVERSATION: Final = "use /v1/responses or /v1/chat/completions with the whole conversation"
_NOT_OFFERED: Final = (
    ("files", _CONTENT, "send a file in the request itself, as a data URL or in base64"),
    ("uploads", _CONTENT, "send a file in the request itself, as a data URL or in base64"),
    ("batches", f"a batch is stored, and {_CONTENT}", "send its requests one by one, as many at once as your limits allow"),
    ("messages/batches", f"a batch is stored, and {_CONTENT}", "send its requests to /v1/messages one by one"),
    ("realtime", "sessions over WebSocket or WebRTC are not relayed",
     "use /v1/audio/transcriptions, /v1/chat/completions with `stream`, and /v1/audio/speech"),
    ("assistants", f"assistants are stored, and {_CONTENT}", _CONVERSATION),
    ("threads", f"threads are stored, and {_CONTENT}", _CONVERSATION),
    ("conversations", f"conversations are stored, and {_CONTENT}", _CONVERSATION),
    ("vector_stores", _CONTENT, "use /v1/embeddings and /v1/rerank with a store of your own"),
    ("fine_tuning", "models are trained at their providers", "train yours there, and have it added to the gateway's models"),
)  # fmt: skip


def why_not_offered(path: str) -> str | None:
    """The message for a path at or below one that is not offered; None for any other path."""
    for name, reason, instead in _NOT_OFFERED:
        if path == f"/v1/{name}" or path.startswith(f"/v1/{name}/"):
            return f"/v1/{name} is not offered here: {reason}. Instead, {instead}."
    return None
