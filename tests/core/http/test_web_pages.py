"""Requests of web pages are told from those of programs, by their headers alone."""

from __future__ import annotations

import pytest

from kyma_proxy.config.snapshot import DEFAULT_ORIGINS, Snapshot
from kyma_proxy.core.http.web_pages import WebPagePolicy, admin_policy, authority_of, is_loopback, public_policy
from kyma_proxy.errors import GatewayError, Kind
from tests.factories import SMALLEST, snapshot

HOST = "127.0.0.1:8080"
EVIL = "https://evil.example"


def configured(listen: str = HOST, *, required: str = "false", admin: str = "127.0.0.1:9090", more: str = "") -> Snapshot:
    text = SMALLEST.replace("127.0.0.1:8080", f"'{listen}'")
    return snapshot(f"{text}accounts: {{required: {required}}}\nadmin: {{listen: '{admin}'}}\n{more}")


def listing(*origins: str) -> str:
    return f"cors: {{origins: [{', '.join(map(repr, origins))}]}}\n"


def admits(
    policy: WebPagePolicy, *, host: str | None = HOST, origin: str | None = None, site: str | None = None, target: str = "/"
) -> bool:
    """True if a request with these headers is served."""
    given = ((b"hOsT", host), (b"oRiGiN", origin), (b"sEc-FeTcH-sItE", site), (b"Accept", "*/*"), (b"cookie", "a"))
    headers = [(name, value.encode("latin-1")) for name, value in given if value is not None]
    refusal = None
    try:
        policy.admit(target.encode(), headers)
    except GatewayError as error:
        refusal = error
    if refusal is not None:
        assert refusal.kind is Kind.FORBIDDEN
        assert "`cors.origins`" in refusal.message or "`hosts`" in refusal.message
    return refusal is None


ALLOWED = [
    "http://localhost", "http://localhost:3000", "https://localhost:3000", "http://app.localhost:5173", "http://127.0.0.1:3000",
    "http://127.8.9.10", "http://[::1]:3000", "https://[::1]", "http://[::ffff:127.0.0.1]:1", "http://127.0.0.1:8080",
    "app://obsidian.md", "app://.", "file://", "file:///", "tauri://localhost", "vscode-webview://1a2b3c", "vscode-file://vscode-app",
]  # fmt: skip
REFUSED = [
    EVIL, "http://evil.example:8080", "null", "", "localhost", "localhost:3000", "http://localhost.evil.example",
    "http://localhost:3000.evil.example", "http://127.0.0.1.evil.example", "http://evillocalhost", "http://localhost@evil.example",
    "http://evil.example/localhost", "http://evil.example#localhost", "http://128.0.0.1", "http://10.0.0.1", "http://[::2]",
    "http://0.0.0.0:3000", "ftp://localhost", "chrome-extension://abc", "apps://x", "myapp://x", "http://", "http://:3000",
    "http://localhost, https://evil.example", "app://a, https://evil.example", "app://\xe9", "http://[127.0.0.1", "http://2130706433",
]  # fmt: skip


@pytest.mark.parametrize("site", [None, "cross-site", "same-site"])
@pytest.mark.parametrize("origin", ALLOWED)
def test_local_pages_and_applications_are_allowed_by_default(origin: str, site: str | None) -> None:
    assert admits(public_policy(configured()), origin=origin, site=site)


@pytest.mark.parametrize("origin", REFUSED)
def test_other_pages_are_refused_by_default(origin: str) -> None:
    for policy in (public_policy(configured()), admin_policy(configured()), public_policy(configured("0.0.0.0:8080"))):
        for site in (None, "cross-site", "same-origin", "none"):
            assert not admits(policy, origin=origin, site=site)


@pytest.mark.parametrize(
    ("site", "is_admitted"),
    [
        ("cross-site", False), ("Cross-Site", False), (" cross-site ", False), ("cross-site;x=1", False),
        ("same-site", True), ("same-origin", True), ("none", True), ("", True),
    ],
)  # fmt: skip
def test_a_request_of_another_site_needs_an_allowed_origin(site: str, is_admitted: bool) -> None:
    assert admits(public_policy(configured()), site=site) is is_admitted
    assert admits(admin_policy(configured()), site=site) is is_admitted


def test_a_field_that_is_there_twice_allows_nothing() -> None:
    policy = public_policy(configured())
    local, evil = (b"origin", b"http://localhost:3000"), (b"origin", EVIL.encode())
    for headers in ([local, evil], [evil, local], [local, local], [(b"host", b"localhost"), (b"host", b"evil.example")]):
        with pytest.raises(GatewayError):
            policy.admit(b"/", headers)
    with pytest.raises(GatewayError):
        policy.admit(b"/", [(b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"cross-site")])


@pytest.mark.parametrize(
    ("origins", "allowed", "refused"),
    [
        (["https://app.example"], ["https://app.example"],
         ["http://app.example", "https://app.example:8443", "https://app.example.evil.example", "http://localhost:3000", "app://x"]),
        (["https://app.example:*"], ["https://app.example:1"], ["https://app.example", "https://app.example.evil.example:1"]),
        (["app://*"], ["app://x", "app://"], ["http://localhost", "file://"]),
        (["*"], [EVIL, "http://localhost", "app://x", "chrome-extension://abc"], ["null", ""]),
        (["http://*"], ["http://evil.example"], [EVIL, "null"]),
        ([], [], ["http://localhost:3000", "app://x", "null"]),
    ],
)  # fmt: skip
def test_the_configured_origins_replace_the_default_ones(origins: list[str], allowed: list[str], refused: list[str]) -> None:
    policy = public_policy(configured(more=listing(*origins)))
    assert [one for one in allowed if not admits(policy, origin=one)] == []
    assert [one for one in refused if admits(policy, origin=one)] == []
    assert admits(policy, origin=f"http://{HOST}")  # a page of the gateway's own


def test_the_gateways_own_origin_is_its_scheme_and_host() -> None:
    plain = public_policy(configured("0.0.0.0:8080"))
    assert admits(plain, host="gw.example:8080", origin="http://gw.example:8080")
    assert admits(plain, host="other.example", target="http://gw.example:8080/v1", origin="http://gw.example:8080")
    assert not admits(plain, host="gw.example:8080", target="http://other.example/", origin="http://gw.example:8080")
    for origin in ("https://gw.example:8080", "http://gw.example", "http://gw.example:80"):
        assert not admits(plain, host="gw.example:8080", origin=origin)
    secure = public_policy(configured("0.0.0.0:8080", more="tls: {certificate: c, key: k}\n"))
    assert admits(secure, host="gw.example", origin="https://gw.example")
    assert not admits(secure, host="gw.example", origin="http://gw.example")


LOCAL_HOSTS = [
    "localhost", "LOCALHOST:8080", "localhost.", "localhost.:8080", "localhost:", "a.b.localhost:1", "127.0.0.1", "127.0.0.1:9",
    "127.1.2.3:8080", "[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", "[::ffff:127.0.0.1]:1",
]  # fmt: skip
FOREIGN_NAMES = [
    "evil.example", "evil.example:8080", "localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example", "127.0.0.1.x.io",
    "localhost@evil.example", "evil.example@localhost", "[localhost]", "[::1", "::1", "localhost:80:80", "localhost:x", "", "-",
    "localhost/", "localhost, evil.example", "\xe9", "gateway.internal.evil.example", "0x7f000001", "127.1",
]  # fmt: skip
ADDRESSES = ["10.0.0.1:9090", "192.168.1.2", "[fd00::1]:9090", "0.0.0.0:8080"]


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "127.0.0.53:80", "localhost:8080", "[::1]:8080", "gw.localhost:8080"])
def test_a_loopback_listener_is_found_by_local_names_only(listen: str) -> None:
    for policy in (public_policy(configured(listen)), admin_policy(configured("[::1]:1", admin=listen, required="true"))):
        assert [host for host in LOCAL_HOSTS if not admits(policy, host=host)] == []
        assert [host for host in [*FOREIGN_NAMES, *ADDRESSES] if admits(policy, host=host)] == []
        assert admits(policy, host=None)


@pytest.mark.parametrize("host", ["gateway.internal", "Gateway.Internal:8080", "gateway.internal.", "10.0.0.1:1", "[fd00::1]"])
def test_the_configured_hosts_are_further_names(host: str) -> None:
    more = "hosts: [GATEWAY.internal, 10.0.0.1, 'fd00:0::1']\n"
    for policy in (public_policy(configured(more=more)), admin_policy(configured(more=more))):
        assert admits(policy, host=host)
        assert admits(policy, host=host)  # from memory
        assert not admits(policy, host="evil.example")
        assert not admits(policy, host="a.gateway.internal")


def test_the_authority_of_a_target_takes_the_place_of_host() -> None:
    policy = public_policy(configured())
    assert admits(policy, host="evil.example", target="http://localhost:8080/v1/models")
    assert not admits(policy, host="localhost", target="http://evil.example/v1/models")
    assert not admits(policy, host="localhost", target="HTTP://evil.example")
    assert admits(policy, host="localhost", target="*")
    assert not admits(policy, host="evil.example", target="*")
    assert authority_of(b"http://a:1?x") == b"a:1"
    assert authority_of(b"/http://a") is None


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", ":8080", "10.0.0.1:8080", "gw.internal:8080", "unix:/k.sock"])
def test_a_public_listener_elsewhere_has_any_name(listen: str) -> None:
    policy = public_policy(configured(listen))
    assert all(admits(policy, host=host) for host in (*LOCAL_HOSTS, *ADDRESSES, "any.example"))
    assert not admits(policy, host="any.example", origin=EVIL)


@pytest.mark.parametrize("listen", ["0.0.0.0:9090", "[::]:9090", "10.0.0.1:9090", "gw.internal:9090"])
def test_an_admin_listener_elsewhere_is_found_by_addresses_and_by_its_names(listen: str) -> None:
    policy = admin_policy(configured(admin=listen, more="hosts: [kyma.monitoring]\n"))
    assert [host for host in (*LOCAL_HOSTS, *ADDRESSES, "kyma.monitoring:9090") if not admits(policy, host=host)] == []
    assert [host for host in FOREIGN_NAMES if admits(policy, host=host)] == []
    assert admits(policy, host="gw.internal:9090") is listen.startswith("gw")


def test_an_admin_socket_has_any_name_and_no_pages() -> None:
    policy = admin_policy(configured(admin="unix:/admin.sock"))
    assert admits(policy, host="any.example")
    assert not admits(policy, host="any.example", origin=EVIL)


def test_where_a_key_is_required_nothing_is_refused_on_the_public_listener() -> None:
    for more in ("", listing(), listing("https://app.example")):
        policy = public_policy(configured(required="true", more=more))
        assert all(admits(policy, host=host) for host in (*LOCAL_HOSTS, *FOREIGN_NAMES))
        assert all(admits(policy, origin=origin, site="cross-site") for origin in (*ALLOWED, *REFUSED))


def lines(policy: WebPagePolicy, origin: str) -> bytes:
    return policy.admit(b"/", [(b"host", HOST.encode()), (b"origin", origin.encode())])


def test_only_pages_of_allowed_origins_may_read_answers() -> None:
    local = public_policy(configured())
    assert lines(local, "http://localhost:3000").startswith(b"access-control-allow-origin: http://localhost:3000\r\n")
    assert lines(local, "app://obsidian.md").startswith(b"access-control-allow-origin: app://obsidian.md\r\n")
    assert local.admit(b"/", [(b"host", HOST.encode())]) == b""
    assert local.readable([(b"Origin", b"http://localhost:3000")]) == lines(local, "http://localhost:3000")
    assert local.readable([(b"origin", EVIL.encode())]) == local.readable([]) == b""
    assert local.readable([(b"origin", b"http://localhost:3000"), (b"Origin", EVIL.encode())]) == b""
    assert local.readable([(b"origin", b"http://localhost:3000")] * 2) == b""
    keyed = public_policy(configured(required="true"))
    assert [one for one in (*ALLOWED, EVIL, "null") if lines(keyed, one)] == []
    listed = public_policy(configured(required="true", more=listing("https://app.example", "http://localhost:*")))
    assert lines(listed, "https://app.example")
    assert lines(listed, "http://localhost:3000")
    assert lines(listed, "http://localhost") == lines(listed, EVIL) == b""
    assert lines(public_policy(configured(required="true", more=listing("*"))), EVIL)


@pytest.mark.parametrize(
    ("entry", "allowed", "refused"),
    [
        ("http://localhost:*", ["http://localhost:1", "http://localhost:65535"], [
            "http://localhost:1.evil.example", "http://localhost:", "http://localhost:1:2", "http://localhost:1@evil.example",
            "http://localhost:evil", "http://localhost:123456", "http://localhost:1/", "http://localhost:\xb2", "http://evil:1",
        ]),
        ("http://[::1]:*", ["http://[::1]:3000"], ["http://[::1]", "http://[::1]:1.evil.example", "http://[::1", "http://[::2]:1"]),
        ("https://app.example:*", ["https://app.example:8443"], [
            "https://app.example:8443.evil.example", "https://app.example.evil.example:8443", "http://app.example:8443",
        ]),
        ("app://*", ["app://obsidian.md", "app://."], ["apps://x", "app:x", "xapp://x", "https://app://x"]),
        ("chrome-extension://abcdef", ["chrome-extension://abcdef"], ["chrome-extension://abcdefg", "chrome-extension://abcde"]),
    ],
)  # fmt: skip
def test_a_star_stands_for_a_port_or_for_what_follows_a_scheme(entry: str, allowed: list[str], refused: list[str]) -> None:
    policy = public_policy(configured(more=listing(entry)))
    assert [origin for origin in allowed if not admits(policy, origin=origin)] == []
    assert [origin for origin in refused if admits(policy, origin=origin)] == []


def test_a_foreign_name_is_repeated_only_if_it_is_harmless() -> None:
    policy = public_policy(configured())
    for host, is_shown in (("evil.example", True), ("`evil`", False), ("e" * 300, False), ("\xe9vil", False)):
        with pytest.raises(GatewayError) as raised:
            policy.admit(b"/", [(b"host", host.encode("latin-1"))])
        assert (host in raised.value.message) is is_shown


def test_a_policy_remembers_few_names() -> None:
    policy = WebPagePolicy(DEFAULT_ORIGINS, is_local=True)
    for at in range(2000):
        assert admits(policy, host=f"a{at}.localhost")
    assert not admits(policy, host="evil.example")


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_name_or_address_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.example", "alocalhost", "126.0.0.1", "128.0.0.1", "::2", "0.0.0.0", "::"])
def test_any_other_name_or_address_may_be_elsewhere(host: str) -> None:
    assert not is_loopback(host)
