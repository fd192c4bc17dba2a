"""A valid request head is read, and each invalid one has its own error."""

from __future__ import annotations

import tracemalloc

import pytest

from kyma_proxy.core.http.inbound import Headers
from kyma_proxy.core.http.request_head import MAX_TARGET_BYTES, RequestHead, read_request_head, says_close
from kyma_proxy.errors import GatewayError, Kind

HOST = (b"Host", b"gateway")


def read(
    *headers: tuple[bytes, bytes], method: bytes = b"POST", version: str = "1.1", target: bytes = b"/v1/messages"
) -> RequestHead:
    fields: Headers = [HOST, *headers] if version == "1.1" else [*headers]
    return read_request_head(method, version, target, fields, 1000)


def refusal(*headers: tuple[bytes, bytes], method: bytes = b"POST", version: str = "1.1", target: bytes = b"/") -> Kind:
    with pytest.raises(GatewayError) as caught:
        read(*headers, method=method, version=version, target=target)
    return caught.value.kind


def test_a_request_head_is_read_as_it_was_sent() -> None:
    assert read((b"X-Any", b"1"), target=b"/v1/messages?beta=true&x=a?b") == RequestHead(
        b"POST", b"/v1/messages", b"beta=true&x=a?b", False, False, False, None
    )


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2", ""])
def test_other_versions_of_http_are_refused(version: str) -> None:
    assert refusal(version=version) is Kind.BAD_HTTP


def test_http_1_0_is_served_without_a_host() -> None:
    assert read(version="1.0").is_http_10
    assert read(HOST, version="1.0").is_http_10
    assert refusal(HOST, HOST, version="1.0") is Kind.BAD_HTTP


@pytest.mark.parametrize("hosts", [0, 2, 3])
def test_http_1_1_needs_exactly_one_host(hosts: int) -> None:
    with pytest.raises(GatewayError) as caught:
        read_request_head(b"GET", "1.1", b"/", [(b"hOsT", b"gateway")] * hosts, 1000)
    assert caught.value.kind is Kind.BAD_HTTP


def test_a_request_target_has_a_maximum_length() -> None:
    assert read(target=b"/" + b"x" * (MAX_TARGET_BYTES - 1)).path[-1:] == b"x"
    assert refusal(target=b"/" + b"x" * MAX_TARGET_BYTES) is Kind.URI_TOO_LONG


def test_connect_is_refused() -> None:
    assert refusal(method=b"CONNECT", target=b"example.org:443") is Kind.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(("target", "path", "query"), [
    (b"/", b"/", b""),
    (b"/a?", b"/a", b""),
    (b"http://gateway/v1/models?x=1", b"/v1/models", b"x=1"),
    (b"HTTPS://gateway:8080/v1/models", b"/v1/models", b""),
    (b"http://gateway", b"/", b""),
    (b"http://gateway?x=a/b", b"/", b"x=a/b"),
    (b"http://gateway/a?x=/b", b"/a", b"x=/b"),
    (b"http://[::1]:80/a", b"/a", b""),
    (b"/a[]{}|^`~?b=[c]{}|^`'", b"/a[]{}|^`~", b"b=[c]{}|^`'"),
])  # fmt: skip
def test_a_target_in_absolute_form_is_its_path_and_query(target: bytes, path: bytes, query: bytes) -> None:
    head = read(target=target)
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize("target", [b"*", b"http://gateway", b"HTTP://gateway:80"])
def test_options_may_ask_about_the_whole_server(target: bytes) -> None:
    assert read(method=b"OPTIONS", target=target).path == b"*"
    assert refusal(target=b"*") is Kind.BAD_HTTP


@pytest.mark.parametrize("target", [
    b"", b"nonsense", b"*a", b"**", b"?a", b"gateway:80", b"ftp://gateway/a", b"http:/a", b"http:a", b"http:///a", b"http://",
    b"http://?a", b"http://a@gateway/", b"http://a:b@gateway/", b"http://@gateway/", b"http://gate way/", b"http://gateway:x/",
    b"http://gateway:65536/", b"http://[::1/", b"http://a,b/", b"ws://gateway/a", b"/a#b", b"/#", b"http://gateway/a#b",
    b"http://gateway#a", b"/a b", b"/a\tb", b"/a\0", b"/\x1b", b"/\x7f", b"/\x80", b"/\xc3\xa9", b'/"', b"/<a>", b"/a\\b",
    b"\\a", b"http://gateway\\a/",
])  # fmt: skip
def test_what_is_no_target_of_http_is_refused(target: bytes) -> None:
    assert refusal(target=target) is Kind.BAD_HTTP


@pytest.mark.parametrize("method", [b"SOURCE", b"M-SEARCH", b"NOTIFY", b"SUBSCRIBE", b"UNSUBSCRIBE", b"PRI"])
def test_a_method_of_another_protocol_is_refused(method: bytes) -> None:
    assert refusal(method=method) is Kind.BAD_HTTP


@pytest.mark.parametrize("value", [
    b"a", b"Example.COM", b"example.com.", b"example.com:", b"example.com:8080", b"my_service-1:80", b"127.0.0.1",
    b"127.0.0.1:0", b"[::1]", b"[::1]:65535", b"[::ffff:1.2.3.4]", b"a" * 63 + b".b", b"localhost \t",
])  # fmt: skip
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(value: bytes) -> None:
    assert read_request_head(b"GET", "1.1", b"/", [(b"Host", value)], 0).path == b"/"
    assert read_request_head(b"GET", "1.1", b"/", [(b"Host", value)], 0).path == b"/"


@pytest.mark.parametrize("value", [
    b"", b" ", b"a b", b"a/b", b"a,b", b"a, a", b"u@a", b"u:p@a", b"a:b", b"a:80:80", b"a:-1", b"a:65536", b"a:123456", b"a:+1",
    b":80", b"a\x80", b"\xc3\xa9", b"a?b", b"a#b", b"a\\b", b"a%00", b"a..b", b".a", b".", b"::1", b"[::1", b"[]", b"[:::]",
    b"[fe80::1%25eth0]", b"[v1.a]", b"[1.2.3.4]", b"[::1]a", b"http://a", b"a" * 300, b"a\0", b"a;b", b"a'b", b"(a)", b"a=b",
])  # fmt: skip
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_any_other_host_is_refused(value: bytes, version: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read_request_head(b"GET", version, b"/", [(b"Host", value)], 0)
    assert caught.value.kind is Kind.BAD_HTTP


@pytest.mark.parametrize(("value", "closes"), [
    (b"close", True), (b"Upgrade, CLOSE", True), (b"close,keep-alive", True), (b"keep-alive,\tclose ,", True), (b"", False),
    (b"keep-alive", False), (b"closed", False), (b"close;a", False), (b"not close", False),
])  # fmt: skip
def test_close_counts_among_other_options(value: bytes, closes: bool) -> None:
    assert says_close([(b"X", b"close"), (b"CONNECTION", b"a"), (b"Connection", value)]) is closes


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length", b"CONTENT-LENGTH"])
def test_a_length_says_whether_there_is_a_body_and_has_a_limit(name: bytes) -> None:
    assert [read((name, value)).length for value in (b"0", b"1", b"1000")] == [0, 1, 1000]
    assert refusal((name, b"1001")) is Kind.BODY_TOO_LARGE
    assert refusal((name, b"9" * 30)) is Kind.BODY_TOO_LARGE


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" chunked "])
def test_a_chunked_request_has_a_body(value: bytes) -> None:
    assert read((b"Transfer-Encoding", value)).length == 0


@pytest.mark.parametrize("value", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b""])
def test_any_other_transfer_encoding_is_refused(value: bytes) -> None:
    assert refusal((b"transfer-encoding", value)) is Kind.UNSUPPORTED_ENCODING


@pytest.mark.parametrize("value", [b"identity", b"Identity", b" ", b""])
def test_an_uncompressed_body_is_accepted(value: bytes) -> None:
    assert read((b"content-encoding", value)).method == b"POST"


@pytest.mark.parametrize("value", [b"gzip", b"br", b"identity, gzip", b"zstd"])
def test_a_compressed_body_is_refused(value: bytes) -> None:
    assert refusal((b"Content-Encoding", value)) is Kind.UNSUPPORTED_ENCODING


def test_expect_100_continue_is_honoured_in_http_1_1_only() -> None:
    assert read((b"Expect", b"100-Continue")).expects_continue
    assert not read((b"Expect", b"100-continue"), version="1.0").expects_continue
    assert refusal((b"expect", b"more")) is Kind.EXPECTATION_FAILED


def test_the_memory_of_names_is_bounded_and_a_full_one_still_judges_right() -> None:
    def see_many_names(first: int) -> None:
        for at in range(first, first + 5000):
            assert read((b"X-Name-%d" % at, b"1"), (b"ConTent-Length", b"5")).length == 5

    see_many_names(0)
    tracemalloc.start()
    try:
        see_many_names(5000)
        assert tracemalloc.get_traced_memory()[0] < 100_000  # 20 bytes a name: none is kept
    finally:
        tracemalloc.stop()
