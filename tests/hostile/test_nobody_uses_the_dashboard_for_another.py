"""The attacks on pages with a sign-in: forged forms, fixed sessions, scripts in names, redirects, cookies at the wrong door."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from tests.dashboard_visitor import DASHBOARD, dashboard, new_key, signed_in, visitor

SCRIPT = "<script>alert(1)</script>"
FORMS = ("/dashboard/sign-out", "/dashboard/keys", "/dashboard/keys/revoke", "/dashboard/sessions/end", "/dashboard/sign-in")
ENDPOINTS = (
    "/v1/keys", "/v1/credits/balance", "/v1/credits/transactions", "/v1/usage", "/v1/auth/limits", "/v1/jobs",
)  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        "sec-fetch-site: cross-site\r\norigin: http://gateway\r\n",
        "sec-fetch-site: same-site\r\n",
        "sec-fetch-site: none\r\n",
        "sec-fetch-site: same-origin\r\nsec-fetch-site: cross-site\r\n",
        "origin: http://evil.example\r\n",
        "origin: http://gateway.evil.example\r\n",
        "origin: http://gateway:81\r\n",
        "origin: http://x@gateway\r\n",
        "origin: null\r\n",
        "origin: http://[\r\n",
        "origin: file://gateway\r\n",
        "origin: http://gateway\r\norigin: http://evil.example\r\n",
        "referer: http://gateway/dashboard\r\n",
        "",
    ],
)
async def test_a_form_of_a_foreign_page_does_nothing(tmp_path: Path, headers: str) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        page = await signed_in(running, caller)
        for path in FORMS:
            assert (await page.submit(path, more=headers, name="x", key=caller.secret)).status == 403
        assert (await page.get("/dashboard")).status == 200
        assert len((await caller.ask("GET", "/v1/keys")).json["data"]) == 1


async def test_a_browser_that_names_only_the_origin_may_send_forms(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        page = await visitor(running)
        assert (await page.submit("/dashboard/sign-in", more="origin: http://gateway\r\n", key=caller.secret)).status == 303


async def test_a_cookie_opens_no_endpoint(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        page = await signed_in(running, caller)
        for path in ENDPOINTS:
            assert (await page.get(path)).status == 401
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/keys", "/v1/images/generations", "/v1/embeddings"):
            assert (await page.submit(path, model="m")).status == 401
        value = page.cookie.partition("=")[2]
        for header in (f"authorization: Bearer {value}\r\n", f"x-api-key: {value}\r\n"):
            assert (await page.get("/v1/keys", more=header)).status == 401


async def test_a_session_that_somebody_else_chose_is_never_used(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        caller, attacker = await running.caller("a@example.com"), await running.caller("b@example.com")
        page, planted = await visitor(running), await signed_in(running, attacker)
        page.cookie = known = planted.cookie
        await page.sign_in(caller.secret)
        assert page.cookie != known
        assert b"a@example.com" in (await page.get("/dashboard/settings")).body
        assert (await planted.get("/dashboard")).status == 303  # what the browser had before is over
        page.cookie = chosen = "kyma_session=chosen-by-somebody"
        await page.sign_in(caller.secret)
        assert page.cookie != chosen


@pytest.mark.parametrize("cookie", ["", "x", "=", "a" * 4000, "é", "' OR 1=1 --", "ky-" + "a" * 43])
async def test_a_made_up_cookie_is_no_session(tmp_path: Path, cookie: str) -> None:
    async with dashboard(tmp_path) as running:
        page = await visitor(running)
        page.cookie = f"kyma_session={cookie}"
        assert (await page.get("/dashboard")).headers["location"] == "/dashboard/sign-in"


async def test_the_database_holds_no_cookie(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        page = await signed_in(running, await running.caller())
        cookie = page.cookie.partition("=")[2]
        with sqlite3.connect(tmp_path / "kyma.db") as connection:
            rows = connection.execute("SELECT * FROM sessions").fetchall()
        connection.close()
        assert [row[0] for row in rows] == [hashlib.sha256(cookie.encode()).digest()]
        assert cookie not in repr(rows)
        assert len(cookie) == 43


async def test_a_wrong_key_is_told_nothing_and_gets_no_cookie(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        page = await visitor(running)
        bodies = set()
        for secret in ("", "ky-", "ky-" + "a" * 43, "sk-other", "ky-é\x00\r\nset-cookie: x", SCRIPT):
            answer = await page.sign_in(secret)
            assert (answer.status, page.cookie, answer.headers.get("location")) == (401, "", None)
            bodies.add(answer.body)
        assert len(bodies) == 1


async def test_no_address_that_a_visitor_sends_is_where_the_browser_goes(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        page = await visitor(running)
        for query in ("?next=https://evil.example", "?next=//evil.example", "?return_to=https://evil.example"):
            answer = await page.submit(
                f"/dashboard/sign-in{query}", key=caller.secret, next="https://evil.example", Location="//evil.example"
            )
            assert (answer.status, answer.headers["location"]) == (303, "/dashboard")


async def test_a_script_in_a_name_is_text(tmp_path: Path) -> None:
    price = "price: {input: 1, output: 2}, pool: [{provider: p0, model: x}]"
    models = f"  - {{id: x, name: '{SCRIPT}', owned_by: '{SCRIPT}', {price}}}\n"
    more = DASHBOARD + "activity: {days: 1}\n"
    async with dashboard(tmp_path, accounts=f", top_up: 'javascript:{SCRIPT}'", models=models, more=more) as running:
        caller = await running.caller()
        account = running.account_service.accounts.account(caller.account)
        await running.account_service.grant(account, 1, SCRIPT)
        page = await signed_in(running, caller)
        assert new_key(await page.submit("/dashboard/keys", name=SCRIPT))
        for path in (
            "/models", "/status", f"/models?q={SCRIPT}&sort={SCRIPT}", "/dashboard/keys", "/dashboard/billing",
            "/dashboard/settings", f"/dashboard/activity?model={SCRIPT}&ending={SCRIPT}",
        ):  # fmt: skip
            body = (await page.get(path.replace("<", "%3C").replace(">", "%3E"))).body
            assert SCRIPT.encode() not in body
            assert b'href="javascript:' not in body
        assert b"&lt;script&gt;" in (await page.get("/dashboard/keys")).body


async def test_a_name_adds_no_header(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        page = await signed_in(running, await running.caller())
        answer = await page.submit("/dashboard/keys", name="x\r\nset-cookie: kyma_session=y")
        assert (answer.status, "set-cookie" in answer.headers) == (400, False)


async def test_no_page_may_be_framed_sniffed_or_load_from_elsewhere(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        page = await visitor(running)
        paths = ("/", "/models", "/dashboard", "/dashboard/sign-in", "/dashboard.css", "/dashboard.js", "/models?q=x")
        for answer in [await page.get(path) for path in paths] + [await page.sign_in("ky-wrong")]:
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert ("frame-ancestors 'none'" in policy, "base-uri 'none'" in policy, "unsafe" in policy) == (True, True, False)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert b" style=" not in answer.body
            assert b"onclick" not in answer.body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"key": "x"}'),
        ("text/plain", b"key=x"),
        ("application/x-www-form-urlencoded", b"key=%ff"),
        ("application/x-www-form-urlencoded", b"key=\xff"),
        ("application/x-www-form-urlencoded", b"key=a&key=b"),
        ("application/x-www-form-urlencoded", b"&".join(b"%d=" % number for number in range(1000))),
    ],
)
async def test_a_form_that_cannot_be_read_is_an_error_and_a_page(tmp_path: Path, kind: str, body: bytes) -> None:
    async with dashboard(tmp_path) as running:
        client = await running.running.client()
        client.post(body, path="/dashboard/sign-in", more=f"sec-fetch-site: same-origin\r\ncontent-type: {kind}\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
