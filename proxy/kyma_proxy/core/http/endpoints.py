"""Describes the endpoints at which callers are served. Each dialect lists its own. (Contract §2.)"""

from __future__ import annotations

from typing import Any, Final

from kyma_proxy.config.snapshot import IMAGES
from kyma_proxy.core.http.large_body import LARGE_BYTES

NO_MEASURE: Final = ""
SOUND_IN: Final = "sound_in"
"""The request has a file of sound, which is measured in seconds."""
SOUND_OUT: Final = "sound_out"
"""The request has a text to speak, which is measured in characters."""
DOCUMENTS: Final = "documents"
"""The request has documents to sort, which are measured in searches."""
TEXT: Final = "text"
"""The request has texts to judge, which are measured in tokens; each request may have a price."""


class Endpoint:
    """An endpoint; the method is POST. `path` follows a provider's base path, and `/v1` for callers.

    - `key`: its name in YAML and in `/v1/status`, and of the routes of its callers.
    - `summary` and `reference`: what it does, and the URL of its documentation.
    - `streams`: its answers may be event streams.
    - `takes_max_tokens`: contract §3.4 applies; `renames_max_tokens`: under the source's `max_tokens_field`.
    - `takes_stream_options`: contract §3.6 applies.
    - `generates`: answers cost output tokens; `is_charged`: they cost anything.
    - `is_estimated`: the gateway answers by itself, with an estimate, if no source can.
    - `measure`: its requests are measured by more than tokens; NO_MEASURE for the others.
    - `takes_form`: its body is a form (multipart/form-data) and not JSON.
    - `answers_opaquely`: its answers may be something else than JSON: sound, or plain text.
    - `also_at`: another path at which callers reach it.
    - `at_once`: a body of no more bytes is read at once; -1 for bodies that are measured.
    - `cleaning`: removes from a request what translations have left in it (`dialect/contract.py`); None if none leave anything.
    """

    __slots__ = (
        "also_at", "answers_opaquely", "at_once", "cleaning", "dialect", "generates", "is_charged", "is_estimated", "key",
        "measure", "name", "path", "reference", "renames_max_tokens", "streams", "summary", "takes_form", "takes_max_tokens",
        "takes_stream_options",
    )  # fmt: skip

    def __init__(
        self, name: str, dialect: str, summary: str, reference: str, *, streams: bool = False,
        takes_max_tokens: bool = False, renames_max_tokens: bool = False, takes_stream_options: bool = False,
        generates: bool = True, is_charged: bool = True, is_estimated: bool = False, key: str | None = None,
        measure: str = NO_MEASURE, takes_form: bool = False, answers_opaquely: bool = False,
        also_at: bytes = b"", cleaning: Any = None,
    ) -> None:  # fmt: skip
        """`key` is the name, unless it is given."""
        self.name = name
        self.key = name if key is None else key
        self.dialect = dialect
        self.summary = summary
        self.reference = reference
        self.path = b"/" + name.encode()
        self.streams = streams
        self.takes_max_tokens = takes_max_tokens
        self.renames_max_tokens = renames_max_tokens
        self.takes_stream_options = takes_stream_options
        self.generates = generates
        self.is_charged = is_charged
        self.is_estimated = is_estimated
        self.measure = measure
        self.at_once = LARGE_BYTES if measure == NO_MEASURE else -1
        self.also_at = also_at
        self.takes_form = takes_form
        self.answers_opaquely = answers_opaquely
        self.cleaning = cleaning

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of: compiled, nothing else is known of it."""
        flags = {
            "streams": self.streams, "takes_max_tokens": self.takes_max_tokens, "renames_max_tokens": self.renames_max_tokens,
            "takes_stream_options": self.takes_stream_options, "generates": self.generates, "is_charged": self.is_charged,
            "is_estimated": self.is_estimated, "key": self.key, "measure": self.measure, "takes_form": self.takes_form,
            "answers_opaquely": self.answers_opaquely, "also_at": self.also_at, "cleaning": self.cleaning,
        }  # fmt: skip
        return _endpoint, (self.name, self.dialect, self.summary, self.reference, flags)


def _endpoint(name: str, dialect: str, summary: str, reference: str, flags: dict[str, Any]) -> Endpoint:
    return Endpoint(name, dialect, summary, reference, **flags)


PUBLIC_FORMS: Final = frozenset({
    b"/v1/auth/register",
    b"/dashboard/sign-in", b"/dashboard/sign-out", b"/dashboard/keys", b"/dashboard/keys/revoke", b"/dashboard/sessions/end",
})  # fmt: skip
"""The paths at which anybody may post a body, without a key; those of the dashboard need a session, which they look up."""
MAX_FORM_BYTES: Final = 64 * 1024
"""The largest body of a form of the control plane."""

IMAGE_JOBS: Final = Endpoint(
    "images/generations", "openai", "Start an image job.",
    "https://platform.openai.com/docs/api-reference/images/create", generates=False, key=IMAGES,
)  # fmt: skip
"""Where an image job begins. It is not relayed: its answer comes later. (Contract §10.)"""
IMAGE_EDITS: Final = Endpoint(
    "images/edits", "openai", "Start a job that edits images.",
    "https://platform.openai.com/docs/api-reference/images/createEdit", generates=False, key=IMAGES,
)  # fmt: skip
"""The same for pictures to edit, which come in a form."""
