"""Makes simulated judgements of texts, and simulated orders of documents. Pure."""

from __future__ import annotations

from typing import Final

from kyma_proxy.simulated.request_fields import BadRequest, Json, positive_int, required_model

_CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
_MAX_DOCUMENTS: Final = 1000


def moderate(body: Json) -> Json:
    """Returns the body of POST /v1/moderations: a text with the word "violence" is flagged. Raises BadRequest."""
    model = body.get("model", "simulated")
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise BadRequest("'input' must be a text, or a list of texts or of parts.", "input")
    inputs = given if isinstance(given, list) and all(isinstance(one, str) for one in given) else [given]
    return {"id": "modr-simulated", "model": model, "results": [_judgement(str(one)) for one in inputs]}


def _judgement(text: str) -> Json:
    is_violent = "violence" in text.lower()
    scores = {name: 0.9 if is_violent and name == "violence" else 0.01 for name in _CATEGORIES}
    return {
        "flagged": is_violent,
        "categories": {name: score > 0.5 for name, score in scores.items()},
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }


def rerank(body: Json) -> Json:
    """Returns the body of POST /v1/rerank: documents that share more words with the query come first. Raises BadRequest."""
    model, query, documents = required_model(body), body.get("query"), body.get("documents")
    if not isinstance(query, str) or not query:
        raise BadRequest("'query' must be a text that is not empty.", "query")
    if not isinstance(documents, list) or not 0 < len(documents) <= _MAX_DOCUMENTS:
        raise BadRequest(f"'documents' must be a list of 1 to {_MAX_DOCUMENTS} documents.", "documents")
    words = set(query.lower().split())
    scores = [len(words & set(_text(one).lower().split())) / len(words) for one in documents]
    order = sorted(range(len(documents)), key=lambda at: -scores[at])[: positive_int(body, "top_n")]
    results = [{"index": at, "relevance_score": scores[at]} for at in order]
    units = -(-len(documents) // 100)
    tokens = len(words) + sum(len(_text(one).split()) for one in documents)
    return {
        "id": "rerank-simulated",
        "model": model,
        "results": results,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}},
        "usage": {"total_tokens": tokens},
    }


def _text(document: object) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        raise BadRequest("A document must be a text, or an object with a text.", "documents")
    return text
