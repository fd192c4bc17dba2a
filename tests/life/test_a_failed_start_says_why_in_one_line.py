"""A start that fails ends in one line that says why; of a wrong configuration every problem is named."""

from __future__ import annotations

import json
import socket
import subprocess
import sysconfig
from pathlib import Path

import pytest
import trustme

from tests.configurations import listeners, simulated_configuration
from tests.processes import command, environment, free_port

PROVIDER = "http://127.0.0.1:9/v1"
WRONG = "listne: x\nmodels: 1\nproviders:\n  - {name: p, base_url: nowhere, dialect: klingon}\n"


def written(directory: Path, *, listen: str = "", log: object = "-", admin: str = "null", more: str = "") -> Path:
    """A configuration in a file; it is right unless the arguments say otherwise."""
    path = directory / "gateway.yaml"
    sections = listeners(listen or f"127.0.0.1:{free_port()}", access_log=log, admin=admin)
    path.write_text(simulated_configuration(PROVIDER, more=f"{sections}{more}"))
    return path


def refusal(path: Path | str, code: int = 1) -> str:
    """The one line in which the start was refused."""
    # A name server that does not answer would be waited for much longer by default.
    result = command("serve", "--config", path, RES_OPTIONS="timeout:1 attempts:1")
    (line,) = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (code, "")
    return line


def problem(path: Path) -> str:
    """The only problem of a configuration, without its line, which `serve` and `check` name."""
    told = set()
    for arguments in (("serve", "--config", path), ("serve", path), ("check", path), ("check", "--config", path)):
        result = command(*arguments)
        line, _ = result.stderr.splitlines()
        assert result.returncode == 2
        told.add(line)
    (line,) = told
    where, separator, found = line.partition(f"{path}: line ")[2].partition(": ")
    assert (where.isdigit(), separator) == (True, ": ")
    return found


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = f"{address}: the address is in use; stop what listens there, or choose another"
        option = "--listen; `serve --replace` takes the place of a running gateway"
        assert refusal(written(tmp_path, listen=address)) == f"kyma-proxy: listen {told} with {option}"
        line = refusal(written(tmp_path, admin=f"{{listen: '{address}'}}"))
        assert line == f"kyma-proxy: admin.listen {told} with --admin"


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, listen="192.0.2.1:8080")).startswith("kyma-proxy: listen 192.0.2.1:8080: ")
    assert refusal(written(tmp_path, listen="does-not-exist.invalid:80")).startswith(
        "kyma-proxy: listen does-not-exist.invalid:80: "
    )


def test_a_unix_socket_in_a_missing_directory_is_named(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/missing/a.sock"
    assert refusal(written(tmp_path, listen=address)) == f"kyma-proxy: listen {address}: no such file or directory"


def test_a_configuration_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert refusal(missing) == f"kyma-proxy: {missing}: no such file or directory"
    assert refusal(tmp_path) == f"kyma-proxy: {tmp_path}: is a directory"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("listen: café".encode("latin-1"))
    assert refusal(latin) == f"kyma-proxy: {latin}: is not UTF-8 text: line 1 has the byte 0xe9; save it as UTF-8"
    latin.write_bytes("listen: x\n".encode("utf-16"))
    assert refusal(latin) == f"kyma-proxy: {latin}: is UTF-16 text; save it as UTF-8"


def test_a_configuration_that_is_not_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("listen: 127.0.0.1:1\nmodels: [\n")
    result = command("serve", "--config", path)
    first, second = result.stderr.splitlines()
    assert first == f"{path}: line 2: this is not YAML: the [ that opens here is never closed"
    assert second == f"{path}: 1 problem; nothing was started"
    assert result.returncode == 2


@pytest.mark.parametrize("arguments", [("serve", "--config"), ("check",)])
def test_every_problem_of_a_configuration_is_named_with_its_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(WRONG)
    result = command(*arguments, path)
    *problems, last = result.stderr.splitlines()
    assert result.returncode == 2
    assert [line.removeprefix(f"{path}: ").split(": ")[:2] for line in problems] == [
        ["line 1", "listne"],
        ["line 2", "models"],
        ["line 4", "providers[0].dialect"],
    ]
    assert last == f"{path}: 3 problems; nothing was started"


def test_a_certificate_and_its_key_must_be_readable_and_belong_together(tmp_path: Path) -> None:
    authority = trustme.CA()
    one, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    one.cert_chain_pems[0].write_to_path(certificate)
    other.private_key_pem.write_to_path(key)
    path = written(tmp_path, more=f"tls: {{certificate: '{certificate}', key: '{key}'}}\n")
    assert problem(path) == f"tls.certificate: {certificate} and {key} are not a PEM certificate chain and its key"
    key.unlink()
    assert problem(path) == f"tls.key: {key} can't be read (no such file or directory)"


def test_an_encrypted_key_is_refused_without_asking_for_its_password(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    trustme.CA().issue_cert("localhost").cert_chain_pems[0].write_to_path(certificate)
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
    found = problem(written(tmp_path, more=f"tls: {{certificate: '{certificate}', key: '{key}'}}\n"))
    assert found.endswith("are not a PEM certificate chain and its key")


def test_an_access_log_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    log = tmp_path / "missing" / "access.log"
    assert refusal(written(tmp_path, log=log)) == f"kyma-proxy: access_log {log}: no such file or directory"


def test_the_ca_file_of_a_provider_must_be_readable(tmp_path: Path) -> None:
    path, missing = written(tmp_path), tmp_path / "missing.pem"
    path.write_text(path.read_text().replace(f"{PROVIDER}',", f"https://127.0.0.1:9/v1', ca_file: {missing},", 1))
    result = command("serve", "--config", path)
    found = f"providers[0].ca_file: {missing} can't be read (no such file or directory)"
    assert (result.returncode, result.stdout) == (2, "")
    assert found in result.stderr.splitlines()[0]


def test_without_a_configuration_the_error_says_how_to_give_one() -> None:
    result = command("check")
    assert result.returncode == 1
    assert result.stderr.startswith("kyma-proxy: no configuration: give --config FILE or set KYMA_CONFIG")


def test_without_a_configuration_and_without_a_key_the_error_says_what_can_be_served() -> None:
    result = command("serve", OPENAI_API_KEY="")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("kyma-proxy: no configuration: set the key of a provider in the environment, give --provider URL")
    assert "OPENAI_API_KEY, ANTHROPIC_API_KEY" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--provider", "localhost:11434"), "--provider: a provider is given by its base URL"),
        (
            ("--provider", "http://localhost:1/v1", "--api-key-env", "NOT_THERE"),
            "--api-key-env NOT_THERE: the environment has no",
        ),
        (("--provider", "http://localhost:1/v1", "--config", "x.yaml"), "leave it or the file out"),
        (("--api-key-env", "X"), "--api-key-env is the key of --provider"),
    ],
)
def test_options_that_serve_nothing_are_named(arguments: tuple[str, ...], words: str) -> None:
    result = command("serve", *arguments, OPENAI_API_KEY="sk-unused")
    (line,) = result.stderr.splitlines()
    assert words in line
    assert result.returncode == 1


def test_check_prints_what_would_be_served(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("api_key: provider-key", "api_key: ${MISSING}", 1))
    result = command("check", path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (
        "warning: line 4: providers[0]: provider simulated is off: the environment variable MISSING is not set" in result.stdout
    )
    assert result.stdout.endswith(f"{path}: fine; 5 models, 3 of 4 providers on\n")


def test_check_prints_json_for_scripts(tmp_path: Path) -> None:
    path = written(tmp_path)
    result = command("check", "--json", path)
    assert result.returncode == 0
    assert json.loads(result.stdout) | {"version": ""} == {"ok": True, "version": "", "problems": [], "warnings": []}
    path.write_text(WRONG)
    result = command("check", "--json", path)
    document = json.loads(result.stdout)
    assert (result.returncode, document["ok"], result.stderr) == (2, False, "")
    assert [problem["line"] for problem in document["problems"]] == [1, 2, 4]


def test_kyma_config_replaces_the_option(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert command("check", KYMA_CONFIG=str(path)).returncode == 0
    path.write_text(WRONG)
    result = command("serve", KYMA_CONFIG=str(path))
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == f"{path}: 3 problems; nothing was started"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--help",), ("serve", "check", "demo", "KYMA_CONFIG", "Exit codes")),
        (("serve", "--help"), ("--config FILE", "$KYMA_CONFIG")),
        (("check", "--help"), ("--json", "every problem")),
        (("demo", "--help"), ("--config FILE", "--pace TIME", "simulated provider")),
        (("--version",), ("kyma-proxy 0.",)),
    ],
)
def test_the_command_has_help_texts_and_a_version(arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    result = command(*arguments)
    assert result.returncode == 0
    assert all(part in " ".join(result.stdout.split()) for part in parts)


def test_the_installed_command_prints_its_version() -> None:
    installed = Path(sysconfig.get_path("scripts")) / "kyma-proxy"
    if not installed.exists():
        pytest.skip("kyma-proxy is not installed in this environment")
    result = subprocess.run([installed, "--version"], env=environment(), capture_output=True, text=True, check=True, timeout=20)
    assert result.stdout.startswith("kyma-proxy ")
