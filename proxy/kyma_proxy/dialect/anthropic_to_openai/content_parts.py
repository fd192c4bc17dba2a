"""Makes the parts of a chat message's content: texts, images and documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from kyma_proxy.dialect.anthropic_to_openai.request_reader import Json, unsupported

PARAGRAPH: Final = "\n\n"
"""Separates two texts that are joined."""


class MediaSource(msgspec.Struct, gc=False):
    """The source of an image or document: inline, a URL, or a file that Anthropic stores."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: str | list[Raw] = ""


class Image(msgspec.Struct, gc=False):
    """A block with an image."""

    source: MediaSource


class Document(msgspec.Struct, gc=False):
    """A block with a document."""

    source: MediaSource
    title: str | None = None
    context: str | None = None


def content_of(parts: list[Json]) -> str | list[Json]:
    """Return the parts of a content, as one string if all are text."""
    if all(part["type"] == "text" for part in parts):
        return PARAGRAPH.join(str(part["text"]) for part in parts)
    return parts


def text_part(text: str) -> Json:
    """Return a text as a part."""
    return {"type": "text", "text": text}


def image_part(source: MediaSource, path: str) -> Json:
    """Return an image as a part. Raises GatewayError if only Anthropic has it."""
    if source.type == "base64":
        return {"type": "image_url", "image_url": {"url": f"data:{source.media_type};base64,{source.data}"}}
    if source.type == "url":
        return {"type": "image_url", "image_url": {"url": source.url}}
    raise unsupported(source.type, f"{path}.source", "send the image itself, as base64, or its URL")


def document_parts(document: Document, path: str, parts_of: Callable[[list[Raw], str], list[Json]]) -> list[Json]:
    """Return a document as a file if it is a PDF, else as text; its title and context come first.

    `parts_of` translates blocks within it. Raises GatewayError if only Anthropic has it.
    """
    source = document.source
    if source.type == "base64":
        parts = [text_part(document.context)] if document.context else []
        name = document.title or "document.pdf"
        file = {"filename": name, "file_data": f"data:{source.media_type or 'application/pdf'};base64,{source.data}"}
        return [*parts, {"type": "file", "file": file}]
    parts = [text_part(heading) for heading in (document.title, document.context) if heading]
    if source.type == "text":
        return [*parts, text_part(source.data)]
    if source.type == "content":
        if isinstance(source.content, str):
            return [*parts, text_part(source.content)]
        return parts + parts_of(source.content, f"{path}.source.content")
    raise unsupported(source.type, f"{path}.source", "send the document itself, as base64 or as text")
