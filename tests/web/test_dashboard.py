"""An account holder sees and does in the browser what the endpoints of accounts show and do."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from kyma_proxy.accounting.sessions import MAX_SESSIONS, SESSION_S
from kyma_proxy.config.problems import ConfigError
from kyma_proxy.loading.compiling import load
from kyma_proxy.web.dashboard.charts import HEIGHT, bars
from kyma_proxy.web.dashboard.protection import SessionCookie
from kyma_proxy.web.dashboard.rendering import rounded_usd
from tests.accounts_harness import AccountsGateway, metered
from tests.configurations import configuration
from tests.dashboard_visitor import DASHBOARD, dashboard, ids, new_key, signed_in, visitor
from tests.harness import gateway
from tests.processes import environment
from tests.waiting import until_true

ACCOUNT_PAGES = tuple(f"/dashboard{path}" for path in ("", "/activity", "/keys", "/limits", "/billing", "/settings"))
OPEN_PAGES = ("/", "/models", "/limits", "/status", "/dashboard/sign-in")


async def test_a_key_signs_in_makes_another_that_works_and_revokes_it(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        page = await signed_in(running, caller)
        made = await page.submit("/dashboard/keys", name="laptop")
        assert (made.status, b"laptop" in made.body) == (200, True)
        other = await running.someone(new_key(made))
        assert (await other.ask("GET", "/v1/keys")).status == 200
        listed = await page.get("/dashboard/keys")
        assert other.secret.encode() not in listed.body
        revoked = await page.submit("/dashboard/keys/revoke", id=ids(listed)[0])
        assert (revoked.status, revoked.headers["location"]) == (303, "/dashboard/keys")
        assert (await other.ask("GET", "/v1/keys")).status == 401
        assert b"laptop" not in (await page.get("/dashboard/keys")).body


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a" * 101, "a\u202eb"])
async def test_a_key_gets_no_name_that_cannot_be_shown(tmp_path: Path, name: str) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        page = await signed_in(running, caller)
        answer = await page.submit("/dashboard/keys", name=name)
        assert (answer.status, b"A name has" in answer.body) == (400, True)
        assert len((await caller.ask("GET", "/v1/keys")).json["data"]) == 1


async def test_the_pages_show_the_account_and_what_it_spent(tmp_path: Path) -> None:
    async with metered(tmp_path, more=DASHBOARD) as (running, _):
        caller = await running.caller("holder@example.com", nano=3 * 10**9)
        for _ in range(2):
            assert (await caller.chat()).status == 200
        await running.account_service.store.flush()
        page = await signed_in(running, caller)
        overview = (await page.get("/dashboard")).body.decode()
        usage = (await caller.ask("GET", "/v1/usage")).json["total"]
        assert f'<th scope="row">Requests</th><td class="number">{usage["requests"]}</td>' in overview
        assert f'<th scope="row">Input tokens</th><td class="number">{usage["prompt_tokens"]}</td>' in overview
        assert "<code>m</code>" in overview
        billing = (await page.get("/dashboard/billing")).body.decode()
        assert ("grant" in billing, "$3.00" in billing, "ask the gateway's operator" in billing) == (True, True, True)
        limits = (await page.get("/dashboard/limits")).body.decode()
        assert ("2 of 30" in limits, "$10.00 more" in limits) == (True, True)
        assert "holder@example.com" in (await page.get("/dashboard/settings")).body.decode()


async def test_single_requests_are_listed_and_exported_without_who_served_them(tmp_path: Path) -> None:
    async with metered(tmp_path, more=DASHBOARD + "activity: {days: 30}\n") as (running, _):
        caller, other = await running.caller("a@example.com"), await running.caller("b@example.com")
        assert (await caller.chat()).status == 200
        page, foreign = await signed_in(running, caller), await signed_in(running, other)
        rows = '<th scope="row"><code>m</code>'

        async def is_listed() -> bool:
            return rows in (await page.get("/dashboard/activity")).body.decode()

        await until_true(is_listed)
        assert rows in (await page.get("/dashboard/activity?model=m&ending=completed")).body.decode()
        assert rows not in (await page.get("/dashboard/activity?ending=broken")).body.decode()
        assert rows not in (await foreign.get("/dashboard/activity")).body.decode()
        file = await page.get("/dashboard/activity.csv?model=m")
        (names, values) = (line.split(",") for line in file.body.decode().splitlines())
        shown = dict(zip(names, values, strict=True))
        assert (shown["model"], shown["provider"], shown["ending"]) == ("m", "", "completed")
        assert file.headers["content-disposition"] == 'attachment; filename="activity.csv"'


async def test_billing_is_paged_and_nothing_is_left_out(tmp_path: Path) -> None:
    async with dashboard(tmp_path, accounts=", top_up: 'https://example.com/pay'") as running:
        caller = await running.caller()
        account = running.account_service.accounts.account(caller.account)
        for number in range(60):
            await running.account_service.grant(account, 10**9, f"note-{number:02d}.")
        page = await signed_in(running, caller)
        first = (await page.get("/dashboard/billing")).body.decode()
        assert 'href="https://example.com/pay"' in first
        older = first.split('href="/dashboard/billing?before=')[1].split('"')[0]
        second = (await page.get(f"/dashboard/billing?before={older}")).body.decode()
        shown = [f"note-{number:02d}." in first for number in range(60)]
        assert shown.count(True) == 50
        assert [f"note-{number:02d}." in second for number in range(60)] == [not one for one in shown]
        assert (await page.get("/dashboard/billing?before=x")).status == 400


async def test_without_a_session_every_page_of_an_account_leads_to_the_sign_in(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        page = await visitor(running)
        for path in ACCOUNT_PAGES:
            answer = await page.get(path)
            assert (answer.status, answer.headers["location"]) == (303, "/dashboard/sign-in")
        for path in OPEN_PAGES:
            answer = await page.get(path)
            assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_a_session_ends_with_the_sign_out_with_its_key_and_with_its_time(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        service = running.account_service
        account = service.accounts.account(caller.account)
        out, revoked = await signed_in(running, caller), await visitor(running)
        kept = out.cookie
        assert (await out.submit("/dashboard/sign-out")).status == 303
        out.cookie = kept
        assert (await out.get("/dashboard")).status == 303
        key, secret = await service.create_key(account, "to be revoked")
        await revoked.sign_in(secret)
        assert (await revoked.get("/dashboard")).status == 200
        await service.revoke_key(account, key.id)
        assert (await revoked.get("/dashboard")).status == 303
        blocked = await signed_in(running, caller)
        await service.set_blocked(account, is_blocked=True)
        assert (await blocked.get("/dashboard")).status == 303
        assert (await blocked.sign_in(caller.secret)).status == 403


async def test_an_account_keeps_its_newest_sessions_and_ends_any_of_them(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        caller = await running.caller()
        pages = [await signed_in(running, caller) for _ in range(MAX_SESSIONS + 1)]
        states = [(await page.get("/dashboard")).status for page in pages]
        assert states.count(200) == MAX_SESSIONS
        page = next(one for one, state in zip(pages, states, strict=True) if state == 200)
        digest = hashlib.sha256(page.cookie.partition("=")[2].encode()).digest()
        own = (await running.account_service.store.session(digest)).id
        for ident in sorted(ids(await page.get("/dashboard/settings")), key=own.__eq__):
            await page.submit("/dashboard/sessions/end", id=ident)
        assert [(await one.get("/dashboard")).status for one in pages] == [303] * (MAX_SESSIONS + 1)


async def test_an_account_ends_and_revokes_nothing_of_another(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        victim, other = await running.caller("a@example.com"), await running.caller("b@example.com")
        page, foreign = await signed_in(running, victim), await signed_in(running, other)
        (session,) = ids(await page.get("/dashboard/settings"))
        (key,) = ids(await page.get("/dashboard/keys"))
        assert (await foreign.submit("/dashboard/sessions/end", id=session)).status == 404
        assert (await foreign.submit("/dashboard/keys/revoke", id=key)).status == 404
        assert (await page.get("/dashboard")).status == 200


async def test_models_are_sought_and_sorted_by_the_address(tmp_path: Path) -> None:
    models = (
        "  - {id: cheap, owned_by: Someone, price: {input: 1, output: 9}, pool: [{provider: p0, model: x}]}\n"
        "  - {id: dear, price: {input: 5, output: 5}, pool: [{provider: p0, model: x}]}\n"
    )
    async with dashboard(tmp_path, models=models) as running:
        page = await visitor(running)
        by_input = (await page.get("/models?sort=input")).body.decode()
        by_output = (await page.get("/models?sort=output")).body.decode()
        assert by_input.index("<code>cheap") < by_input.index("<code>dear")
        assert by_output.index("<code>dear") < by_output.index("<code>cheap")
        found = (await page.get("/models?q=someone")).body.decode()
        assert ("<code>cheap" in found, "<code>dear" in found) == (True, False)
        assert b"No model fits" in (await page.get("/models?q=nothing&sort=nonsense")).body


async def test_a_model_without_a_provider_is_off_and_no_outage(tmp_path: Path) -> None:
    more = "  - {name: keyless, base_url: 'http://127.0.0.1:9', dialect: openai, api_key: '${NO_SUCH_API_KEY}'}\n"
    models = "  - {id: idle, price: {input: 1, output: 9}, pool: [{provider: keyless, model: x}]}\n"
    section = f"accounts: {{required: true, database: 'sqlite:{tmp_path}/kyma.db'}}\n"
    text = configuration(9, models=models, more=section + DASHBOARD)
    async with gateway(text.replace("models:\n", f"{more}models:\n", 1), tmp_path) as running:
        page = await visitor(AccountsGateway(running))
        shown = (await page.get("/status")).body.decode()
        assert 'Now: <span class="state available">' in shown
        assert '<code>idle</code></th><td><span class="state off">' in shown
        client = await running.client()
        client.get("/v1/status")
        assert {one["id"]: one["status"] for one in (await client.answer()).json["models"]}["idle"] == "unavailable"


async def test_the_files_of_the_pages_may_be_kept_and_the_pages_may_not(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as running:
        page = await visitor(running)
        for path in ("/dashboard.css", "/dashboard.js"):
            assert (await page.get(path)).headers["cache-control"].startswith("public")
        for path in (*OPEN_PAGES, *ACCOUNT_PAGES):
            assert (await page.get(path)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{enabled: true}", "public_url is missing"),
        ("{enabled: true, public_url: 'http://llm.example.com'}", "must begin with https"),
        ("{enabled: true, public_url: 'https://llm.example.com/path'}", "without a path"),
        ("{enabled: true, public_url: 'https://*'}", "without a path"),
        ("{enabled: true, public_url: 'javascript:alert(1)'}", "without a path"),
        ("{enabled: true, public_url: 'https://llm.example.com', theme: dark}", "unknown key"),
    ],
)
def test_a_configuration_that_could_not_be_served_is_refused(section: str, problem: str) -> None:
    text = configuration(9, more=f"accounts: {{required: true}}\ndashboard: {section}\n")
    with pytest.raises(ConfigError) as raised:
        load(text, {})
    assert any(problem in one.message for one in raised.value.problems), raised.value.problems


def test_the_dashboard_needs_accounts_and_is_off_unless_it_is_asked_for() -> None:
    assert load(configuration(9), {}).dashboard is None
    with pytest.raises(ConfigError) as raised:
        load(configuration(9, more=DASHBOARD), {})
    assert [one.path for one in raised.value.problems] == ["dashboard.enabled"]


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    script = (
        "import sys, kyma_proxy.ops.serve, kyma_proxy.ops.assemble\n"
        "print([name for name in sys.modules if 'jinja2' in name or 'web.dashboard' in name])"
    )
    result = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


async def test_without_it_its_paths_are_not_there(tmp_path: Path) -> None:
    async with dashboard(tmp_path, more="") as running:
        page = await visitor(running)
        for path in ("/", "/models", "/limits", "/dashboard", "/dashboard/sign-in", "/dashboard.css"):
            assert (await page.get(path)).status == 404
        assert (await page.get("/status")).status == 200
        assert (await page.sign_in("ky-x")).status == 404


def test_the_cookie_is_bound_to_the_host_where_the_address_is_https() -> None:
    for address, start in (("https://llm.example.com", "__Host-kyma_session="), ("http://127.0.0.1:80", "kyma_session=")):
        response = web.Response()
        SessionCookie(address).set(response, "value")
        (line,) = (morsel.OutputString() for morsel in response.cookies.values())
        assert line.startswith(start + "value")
        assert {"HttpOnly", "Path=/", "SameSite=Lax", f"Max-Age={SESSION_S}"} <= set(line.split("; "))
        assert ("Secure" in line.split("; "), "Domain" in line) == (address.startswith("https"), False)


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "$0.00"), (1, "$0.000000001"), (10**7, "$0.01"), (1_234_567_891, "$1.23"), (-(10**9), "-$1.00")]
)
def test_an_amount_at_a_glance_is_never_nothing_if_it_is_something(nano: int, text: str) -> None:
    assert rounded_usd(nano) == text


def test_a_bar_that_is_not_zero_can_be_seen_and_none_is_higher_than_the_chart() -> None:
    drawn = bars([(0, 0), (1, 1), (2, 10**12)])
    assert [bar.height for bar in drawn] == [0, 2, HEIGHT]
    assert all(bar.y + bar.height == HEIGHT for bar in drawn)
    assert bars([]) == []
