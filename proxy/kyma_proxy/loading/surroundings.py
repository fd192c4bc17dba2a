"""Checks a configuration against the machine that it is for: its addresses, its files, and whether anything could be served."""

from __future__ import annotations

import ipaddress
from typing import Final

from kyma_proxy.config.snapshot import Address, Snapshot, TcpAddress
from kyma_proxy.config.units import AUTO_WORKERS
from kyma_proxy.core.http.web_pages import is_loopback
from kyma_proxy.loading.credentials import Report
from kyma_proxy.loading.document import Document, present
from kyma_proxy.loading.outside_values import OutsideValues

_NO_FILES: Final = ("-", "pretty")


def check_addresses(document: Document, snapshot: Snapshot, report: Report, warn: Report) -> None:
    """Report addresses that exclude each other; warn of a listener that gives keys away."""
    if snapshot.admin is not None and _overlap(snapshot.listen, snapshot.admin.listen):
        report("admin.listen", f"is the address of the public listener too ({document.listen}); give it a port of its own")
    if not snapshot.accounts.required and _is_open(snapshot.listen):
        warn(
            "listen",
            f"{document.listen} can be reached from other machines, and whoever reaches it uses your providers' keys; listen "
            "on 127.0.0.1, or set accounts.required to true",
        )


def check_workers(document: Document, snapshot: Snapshot, report: Report) -> None:
    """Report accounts that several processes would have to share."""
    if snapshot.workers > 1 and snapshot.accounts.required:
        count = f"`auto` is {snapshot.workers} here" if document.workers == AUTO_WORKERS else f"{snapshot.workers}"
        report("workers", f"{count}: accounts are kept by one process for now; write `workers: 1`, or leave it out")


def check_files(document: Document, snapshot: Snapshot, outside: OutsideValues, report: Report) -> None:
    """Report files that who serves could not use."""
    if document.tls is not None:
        found = outside.find_tls_problem(document.tls.certificate, document.tls.key)
        if found is not None:
            report(f"tls.{found[0]}", found[1])
    if document.access_log is not None and document.access_log not in _NO_FILES:
        _check_writing(document.access_log, "access_log", outside, report)
    if snapshot.accounts.required and snapshot.accounts.database:
        _check_writing(snapshot.accounts.database, "accounts.database", outside, report)


def check_something_is_on(document: Document, snapshot: Snapshot, report: Report, warn: Report) -> None:
    """Report that nothing could be served, with the reasons; warn of it if a key may still come, from a file or a program."""
    if any(provider.off is None for provider in snapshot.providers.values()):
        return
    may_come = any(one.api_key_file is not None or one.api_key_command is not None for _, one in present(document.providers))
    reasons = [f"{provider.name}: {provider.off}" for provider in snapshot.providers.values()]
    shown = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    (warn if may_come else report)("providers", f"every provider is off, so that nothing could be served ({shown})")


def _check_writing(path: str, member: str, outside: OutsideValues, report: Report) -> None:
    problem = outside.find_write_problem(path)
    if problem is not None:
        report(member, f"{path} can't be written: {problem}")


def _overlap(one: Address, other: Address) -> bool:
    """True if only one of these can be listened on."""
    if not isinstance(one, TcpAddress) or not isinstance(other, TcpAddress):
        return not isinstance(one, TcpAddress) and not isinstance(other, TcpAddress) and one.path == other.path
    if one.port != other.port or not one.port:
        return False
    hosts = {_host(one), _host(other)}
    return len(hosts) == 1 or any(_is_everything(host) for host in hosts)


def _host(address: TcpAddress) -> str:
    host = address.host.lower()
    return "127.0.0.1" if host == "localhost" else host


def _is_everything(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_open(address: Address) -> bool:
    """True if this is an address, and no name, that other machines may reach."""
    if not isinstance(address, TcpAddress) or not address.host:
        return False
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return False
    return not is_loopback(address.host)
