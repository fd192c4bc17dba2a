"""In a real Chromium, a foreign page reaches no provider and reads nothing, not even after DNS rebinding; a local page does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.browser import CHROMIUM, Browser, browser, page_server
from tests.configurations import configuration
from tests.harness import ANSWER, Provider, admin_port, gateway, providers

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
    pytest.mark.timeout(120),
]

# Each try yields the text that the page could read, or "" if the browser gave it none.
TRIES = """
(async (base, admin) => {
  const body = JSON.stringify({model: "m", messages: []});
  const read = (url, how) => fetch(url, {...how, signal: AbortSignal.timeout(8000)}).then(
    async answer => answer.type === "opaque" ? "" : `${answer.status} ${await answer.text()}`, () => "");
  const loaded = (element, begin) => new Promise(done => {
    element.onload = element.onerror = () => done("");
    begin();
  });
  const frame = Object.assign(document.createElement("iframe"), {name: "sink"});
  const form = Object.assign(document.createElement("form"), {
    method: "POST", action: `${base}/v1/chat/completions`, enctype: "text/plain", target: "sink"});
  form.append(Object.assign(document.createElement("input"), {name: '{"model":"m","messages":[],"user":"', value: '"}'}));
  document.body.append(form);
  await loaded(frame, () => document.body.append(frame));  // it is blank until the form is sent into it
  const image = document.createElement("img");
  const sandboxed = new Promise(done => {
    window.addEventListener("message", event => done(event.data));
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    const how = JSON.stringify({method: "POST", body});
    frame.srcdoc = `<script>fetch("${base}/v1/chat/completions", ${how})
      .then(answer => answer.text(), () => "").then(text => parent.postMessage(text, "*"))</` + "script>";
    document.body.append(frame);
  });
  return {
    text: await read(`${base}/v1/chat/completions`, {method: "POST", body}),
    blind: await read(`${base}/v1/chat/completions`, {method: "POST", body, mode: "no-cors"}),
    json: await read(`${base}/v1/chat/completions`, {
      method: "POST", body, headers: {"content-type": "application/json", authorization: "Bearer x"}}),
    messages: await read(`${base}/v1/messages`, {method: "POST", body}),
    status: await read(`${base}/v1/status`),
    models: await read(`${base}/v1/models`),
    metrics: await read(`${admin}/metrics`),
    reload: await read(`${admin}/admin/reload`, {method: "POST", body: ""}),
    sandboxed: await sandboxed,
    form: await loaded(frame, () => form.submit()),
    image: await loaded(image, () => { image.src = `${base}/v1/models`; }),
  };
})
"""


class Machine(NamedTuple):
    """A machine on which a gateway, a browser and somebody's pages run."""

    provider: Provider
    browser: Browser
    port: int
    admin_port: int
    page_port: int

    async def tries(self, page: str, *, base: str = "", admin: str = "") -> dict[str, str]:
        """What a page reads that tries everything."""
        bases = (base or f"http://127.0.0.1:{self.port}", admin or f"http://127.0.0.1:{self.admin_port}")
        async with self.browser.tab(page) as tab:
            found: dict[str, str] = await tab.run(f"{TRIES}({', '.join(map(json.dumps, bases))})")
        return found


@contextlib.asynccontextmanager
async def machine(directory: Path, *, hosts: str = "[]", more: str = "") -> AsyncIterator[Machine]:
    """A gateway that needs no key, with both listeners; `hosts` and `more` are as for `configuration`."""
    async with (
        providers(1) as (provider,),
        gateway(configuration(provider.port, hosts=hosts, more=more), directory) as running,
        page_server() as page_port,
        browser(directory) as opened,
    ):
        with admin_port(running) as port:
            yield Machine(provider, opened, running.port, port, page_port)


async def test_a_foreign_page_reaches_no_provider_and_reads_nothing(tmp_path: Path) -> None:
    async with machine(tmp_path) as here:
        for base in (f"http://127.0.0.1:{here.port}", f"http://localhost:{here.port}"):
            found = await here.tries(f"http://evil.example:{here.page_port}/", base=base)
            assert set(found.values()) == {""}, found
        assert here.provider.received == []


async def test_after_dns_rebinding_a_page_reaches_no_provider_and_reads_only_refusals(tmp_path: Path) -> None:
    async with machine(tmp_path) as here:
        for port in (here.port, here.admin_port):  # the page has the origin of the listener, as after rebinding
            base = f"http://evil.example:{port}"
            found = await here.tries(f"{base}/", base=base, admin=base)
            for name in ("text", "json", "messages", "status", "models", "metrics", "reload"):
                assert found[name].startswith("403 "), (name, found[name])
                assert "`hosts`" in found[name]
            assert found["sandboxed"] == ""
        assert here.provider.received == []


async def test_a_page_on_this_machine_may_use_the_gateway_and_read_its_answers(tmp_path: Path) -> None:
    async with machine(tmp_path) as here:
        for page in (f"http://localhost:{here.page_port}/", f"http://127.0.0.1:{here.page_port}/"):
            found = await here.tries(page)
            assert found["text"] == found["json"] == f"200 {ANSWER.decode()}"
            assert found["status"].startswith("200 ")
            assert found["models"].startswith("200 ")
            assert found["metrics"] == found["reload"] == found["sandboxed"] == ""
            script = f"fetch('http://127.0.0.1:{here.port}/v1/models').then(answer => answer.headers.get('x-request-id'))"
            async with here.browser.tab(page) as tab:
                assert await tab.run(script)


async def test_the_configured_origins_let_a_foreign_page_in_but_none_without_an_origin(tmp_path: Path) -> None:
    """The browser itself prevents none of the tries."""
    async with machine(tmp_path, more="cors: {origins: ['http://evil.example:*']}\n") as here:
        found = await here.tries(f"http://evil.example:{here.page_port}/")
        assert found["text"] == found["json"] == f"200 {ANSWER.decode()}"
        assert found["sandboxed"] == ""
        assert len(here.provider.received) == 5
        assert any(b'"user":"=' in one.body for one in here.provider.received)
        assert (await here.tries(f"http://localhost:{here.page_port}/"))["text"] == ""


async def test_a_page_under_a_configured_name_of_the_gateway_is_its_own(tmp_path: Path) -> None:
    async with machine(tmp_path, hosts="[evil.example]") as here:
        base = f"http://evil.example:{here.port}"
        found = await here.tries(f"{base}/v1/health", base=base)
        assert [found[name][:4] for name in ("text", "json", "status", "models")] == ["200 "] * 4
        assert found["metrics"] == found["reload"] == found["sandboxed"] == ""
