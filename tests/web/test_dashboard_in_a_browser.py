"""In a real Chromium: sign in, make a key, use it, revoke it, sign out; the back button shows nothing; no script runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, Tab, browser
from tests.dashboard_visitor import dashboard

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
    pytest.mark.timeout(120),
]
SCRIPT = "<script>alert(1)</script>"
NAMES = ("activity", "keys", "limits", "billing", "settings")


async def submit(tab: Tab, form: str, **fields: str) -> str:
    """Fill the form that is sent to this path, send it with its button, and return the path of the page that follows."""
    values = json.dumps(fields)
    await tab.follow(
        f"""(() => {{
            const form = document.querySelector('form[action="{form}"]');
            for (const [name, value] of Object.entries({values})) form.elements[name].value = value;
            form.querySelector("button").click();
        }})()"""
    )
    return str(await tab.run("location.pathname"))


async def text(tab: Tab, selector: str) -> Any:
    return await tab.run(f"document.querySelector('{selector}')?.textContent ?? null")


@pytest.mark.parametrize("has_scripts", [True, False])
async def test_a_person_signs_in_makes_a_key_revokes_it_and_signs_out(tmp_path: Path, has_scripts: bool) -> None:
    async with dashboard(tmp_path) as running, browser(tmp_path) as chromium:
        caller = await running.caller()
        base = f"http://127.0.0.1:{running.running.port}"
        async with chromium.tab(f"{base}/dashboard") as tab:
            if not has_scripts:
                await tab.forbid_scripts()
            assert await tab.run("location.pathname") == "/dashboard/sign-in"
            assert await submit(tab, "/dashboard/sign-in", key=caller.secret) == "/dashboard"
            await tab.open(f"{base}/dashboard/keys")
            await submit(tab, "/dashboard/keys", name=SCRIPT)
            other = await running.someone(str(await text(tab, "#new-key")))
            assert (await other.ask("GET", "/v1/keys")).status == 200
            assert SCRIPT in str(await text(tab, "tbody"))
            await submit(tab, "/dashboard/keys/revoke")
            assert (await other.ask("GET", "/v1/keys")).status == 401
            assert await submit(tab, "/dashboard/sign-out") == "/dashboard/sign-in"
            await tab.follow("history.back()")
            assert await tab.run("location.pathname") == "/dashboard/sign-in"
            assert await tab.run("document.body.textContent.includes('Begins with')") is False


@pytest.mark.parametrize("width", [360, 1600])
async def test_no_page_is_wider_than_the_window_or_breaks_its_own_policy(tmp_path: Path, width: int) -> None:
    async with dashboard(tmp_path) as running, browser(tmp_path) as chromium:
        caller = await running.caller("a-rather-long-address-of-somebody@a-rather-long-name-of-a-host.example.com")
        base = f"http://127.0.0.1:{running.running.port}"
        async with chromium.tab(f"{base}/dashboard/sign-in") as tab:
            await tab.resize(width, 800)
            await submit(tab, "/dashboard/sign-in", key=caller.secret)
            for path in ("/", "/models", "/status", "/dashboard", *(f"/dashboard/{one}" for one in NAMES)):
                await tab.open(base + path)
                assert await tab.run("document.documentElement.scrollWidth") <= width, path
                assert await tab.run("getComputedStyle(document.body).margin") == "0px", "the stylesheet was not loaded"
                assert await tab.run("document.querySelectorAll('h1').length") == 1
