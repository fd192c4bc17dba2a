"""Images reach only models that take them; otherwise another model is used, or the caller gets an error that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.translation import OTHER, WHOLE_ANSWERS, ask
from tests.harness import both, whole

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGES: dict[str, dict[str, Any]] = {
    "openai": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
}
TAKES_IMAGES = "input_modalities: [text, image]"


@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("takes_images", [True, False])
async def test_an_image_is_translated_for_a_model_that_takes_images_and_refused_for_others(
    tmp_path: Path, dialect: str, takes_images: bool
) -> None:
    async with both(tmp_path, dialect=OTHER[dialect], model=TAKES_IMAGES if takes_images else "") as (running, source):
        source.plays(WHOLE_ANSWERS[OTHER[dialect]])
        client = await running.client()
        content = [IMAGES[dialect], {"type": "text", "text": "What is it?"}]
        ask(client, dialect, messages=[{"role": "user", "content": content}])
        answer = await client.answer()
        assert answer.status == (200 if takes_images else 400)
        if takes_images:
            assert PIXEL.encode() in source.received[0].body
        else:
            assert "takes no images" in answer.json["error"]["message"]
            assert source.received == []


@pytest.mark.parametrize("speaks", OTHER)
@pytest.mark.parametrize("dialect", OTHER)
@pytest.mark.parametrize("has_image", [True, False])
async def test_a_substitute_that_takes_no_images_is_not_asked_about_one(
    tmp_path: Path, dialect: str, speaks: str, has_image: bool
) -> None:
    blind = "  - {id: blind, pool: [{provider: p1, model: real-1}]}\n"
    sections = "fallbacks: {m: [blind]}\n"
    async with both(
        tmp_path, 2, dialect=(dialect, speaks), pool=1, model=TAKES_IMAGES, models=blind, more=sections
    ) as (running, source, substitute):  # fmt: skip
        source.plays(whole(b"{}", status="503 Busy"))
        substitute.plays(WHOLE_ANSWERS[speaks])
        client = await running.client()
        text = {"type": "text", "text": 'Not an image: {"type": "image"}'}
        ask(client, dialect, messages=[{"role": "user", "content": [IMAGES[dialect], text] if has_image else [text]}])
        answer = await client.answer()
        if not has_image:
            assert (answer.status, answer.headers["x-kyma-fallback-layer"]) == (200, "3")
            return
        assert answer.status == 502
        assert "503" in answer.json["error"]["message"]
        assert substitute.received == []


@pytest.mark.parametrize("dialect", OTHER)
async def test_an_image_for_a_model_of_the_callers_own_dialect_is_its_providers_to_refuse(tmp_path: Path, dialect: str) -> None:
    async with both(tmp_path, dialect=dialect) as (running, source):
        source.plays(whole(b'{"error":"blind"}', status="400 Bad Request"))
        client = await running.client()
        ask(client, dialect, messages=[{"role": "user", "content": [IMAGES[dialect]]}])
        answer = await client.answer()
        assert (answer.status, answer.body) == (400, b'{"error":"blind"}')
