"""A rented worker's certificate and token, its boot script and its environment."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
import re
import secrets
import shutil
import ssl
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from doubles.vast.rented import orders
from hypothesis import given
from hypothesis import strategies as st

from llmhost.errors import ConfigError
from llmhost.fleet.providers.vast import identity as module
from llmhost.fleet.providers.vast.identity import (
    LONGEST_ENVIRONMENT,
    Identity,
    WorkerCredentials,
    WorkerGateway,
    certificate_to_environment,
    environment,
    make_identity,
    names_workers_variable,
    onstart,
    read_environment,
)

#: characters; vast.ai's limit on one value
LONGEST = 256

#: seconds
DAY = 86_400

IDENTITY = make_identity(time.time())

anything = st.one_of(st.text(), st.binary().map(lambda data: base64.b64encode(data).decode()))
names = st.sampled_from(["LLMHOST_MODEL", "LLMHOST_TOKEN", *(f"LLMHOST_CERT_{n}" for n in range(5)), "HOME"])


async def meet(server: Identity, trusted: Identity, folder: Path, flags: int = 0) -> None:
    """A TLS handshake over loopback. Raises SSLError where `trusted` is not `server`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "both.pem").write_text(server.certificate + server.key)
    context.load_cert_chain(folder / "both.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= flags
    client.load_verify_locations(cadata=trusted.certificate)
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("flags", [0, ssl.VERIFY_X509_STRICT])
async def test_who_trusts_the_certificate_alone_connects(tmp_path: Path, flags: int) -> None:
    await meet(IDENTITY, IDENTITY, tmp_path, flags)


async def test_who_trusts_another_does_not(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await meet(make_identity(time.time()), IDENTITY, tmp_path)


async def test_the_certificate_cannot_sign_others() -> None:
    certificate = x509.load_pem_x509_certificate(IDENTITY.certificate.encode())
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


async def test_the_certificate_holds_where_a_clock_is_behind_and_for_years(tmp_path: Path) -> None:
    now = time.time()
    await meet(tomorrow := make_identity(now + 0.9 * DAY), tomorrow, tmp_path)
    await meet(old := make_identity(now - 3000 * DAY), old, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        await meet(outlived := make_identity(now - 3700 * DAY), outlived, tmp_path)


def test_no_two_identities_are_alike() -> None:
    some = [make_identity(0.0) for _ in range(3)]
    assert len({identity.token for identity in some}) == len({identity.key for identity in some}) == 3
    assert min(len(identity.token) for identity in some) >= 43


def test_its_secrets_are_not_shown() -> None:
    for shown in (repr(IDENTITY), repr(WorkerCredentials("m", IDENTITY.token, IDENTITY.certificate))):
        assert IDENTITY.token not in shown
        assert "PRIVATE KEY" not in shown


def test_a_certificate_with_a_part_missing_is_none() -> None:
    env = certificate_to_environment(IDENTITY.certificate)
    for part in env:
        assert read_environment({name: env[name] for name in env if name != part}).certificate is None


def test_an_environment_without_them_says_nothing() -> None:
    assert read_environment({"HOME": "/root", "LLMHOST_TOKEN": ""}) == WorkerCredentials("", None, None)


@given(st.dictionaries(names, anything))
def test_any_environment_can_be_read(env: dict[str, str]) -> None:
    facts = read_environment(env)
    assert facts.model == env.get("LLMHOST_MODEL", "")
    if facts.certificate is not None:
        ssl.create_default_context(cadata=facts.certificate)


def test_a_certificate_of_an_unknown_version_says_nothing() -> None:
    der = base64.b64decode("".join(certificate_to_environment(IDENTITY.certificate).values()))
    broken = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x34", 1)
    assert broken != der
    env = {"LLMHOST_CERT_1": base64.b64encode(broken).decode()}
    assert read_environment(env).certificate is None


@given(st.data())
def test_a_certificate_that_is_read_is_one_that_can_be_pinned(data: st.DataObject) -> None:
    text = "".join(certificate_to_environment(IDENTITY.certificate).values())
    place = data.draw(st.integers(0, len(text) - 1))
    env = {"LLMHOST_CERT_1": text[:place] + data.draw(st.characters()) + text[place + 1 :]}
    certificate = read_environment(env).certificate
    if certificate is not None:
        ssl.create_default_context(cadata=certificate)


# The script and the environment of a rented worker


SCRIPT = Path(module.__file__).with_name("setup_instance.sh")


GATEWAY = WorkerGateway("llmhost==0.1.0", lambda: {"llmhost.yaml": "é", "redis-ca.pem": "PEM"})


def script_parts(gateway: WorkerGateway | None = None) -> Mapping[str, str]:
    ordered = environment(orders(gateway=gateway), IDENTITY)
    return {name: part for name, part in ordered.items() if name.startswith("LLMHOST_SCRIPT_")}


def unpacked(gateway: WorkerGateway | None = None) -> str:
    return gzip.decompress(base64.b64decode("".join(script_parts(gateway).values()))).decode()


def with_long_settings() -> WorkerGateway:
    """A system prompt, names of models and a certificate that do not get much shorter."""
    text = secrets.token_hex(3000)
    return WorkerGateway("p" * 256, lambda: {"llmhost.yaml": text, "redis-ca.pem": text[:2000]})


@pytest.mark.parametrize("gateway", [None, with_long_settings()], ids=["without", "with a gateway"])
def test_the_environment_has_a_quarter_of_room_left(gateway: WorkerGateway | None) -> None:
    longest = {"model": "m" * 200, "api_url": "https://" + "a" * 200}
    ordered = environment(orders(**longest, gateway=gateway), IDENTITY)
    assert max(map(len, ordered.values())) <= LONGEST
    assert sum(len(name) + len(value) for name, value in ordered.items()) < 0.75 * LONGEST_ENVIRONMENT


def test_the_scripts_parts_are_put_together_in_their_order_by_any_shell() -> None:
    whole = subprocess.run(
        ["/bin/sh", "-c", onstart().replace("|bash", "")],
        env=os.environ | script_parts(),
        capture_output=True,
    )
    assert whole.stdout.decode() == unpacked()
    assert 10 < len(script_parts()) < 100  # two digits


def test_onstart_holds_no_character_that_a_shell_takes_for_its_own_but_the_pipes() -> None:
    assert set(onstart()) & set("$`\"'\\;&<>()*?[]{}!#~") == set()


@pytest.mark.parametrize("gateway", [None, GATEWAY], ids=["without", "with a gateway"])
def test_comments_stay_at_home(gateway: WorkerGateway | None) -> None:
    assert [
        line for line in unpacked(gateway).splitlines() if line.startswith(("#", " ")) or " # " in line
    ] == []


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_what_is_sent_is_a_script_that_the_shell_can_parse(shell: str) -> None:
    subprocess.run([shell, "-n", "-c", onstart()], check=True)
    for gateway in (None, GATEWAY):
        script = unpacked(gateway).encode()
        subprocess.run([shutil.which("bash") or "bash", "-n"], input=script, check=True)


def test_the_script_lies_with_the_others_too() -> None:
    link = Path(__file__).parents[4] / "scripts" / "setup_instance.sh"
    assert not link.readlink().is_absolute()
    assert link.resolve() == SCRIPT.resolve()


@pytest.mark.parametrize("gateway", [None, GATEWAY], ids=["without", "with a gateway"])
def test_the_environment_says_all_that_the_script_asks_for(gateway: WorkerGateway | None) -> None:
    asked = set(re.findall(r"LLMHOST_[A-Z]+(?:_[A-Z]+)*", unpacked(gateway)))
    own = {f"LLMHOST_{name}" for name in ("ROOT", "FRONT_PORT", "ENGINE_PORT", "GATE_PORT", "PAUSE")}
    to_the_gateway = {"LLMHOST_ENGINE_URL", "LLMHOST_WORKER"}
    env = environment(orders(gateway=gateway), IDENTITY)
    said = {name.rstrip("_0123456789") for name in env if name.startswith("LLMHOST_")}
    assert asked - own - to_the_gateway == said - {"LLMHOST_PRICE"}


def test_without_a_gateway_nothing_of_it_is_sent() -> None:
    env = environment(orders(), IDENTITY)
    assert [name for name in env if "GATEWAY" in name or name == "LLMHOST_PRICE"] == []
    assert "pip" not in unpacked()


def test_the_gateways_files_are_put_together_by_tar(tmp_path: Path) -> None:
    env = environment(orders(gateway=GATEWAY, price=0.25), IDENTITY)
    assert (env["LLMHOST_GATEWAY_PACKAGE"], env["LLMHOST_PRICE"]) == ("llmhost==0.1.0", "0.25")
    parts = [env[name] for name in sorted(env) if name.startswith("LLMHOST_GATEWAY_FILES_")]
    (folder := tmp_path / "files").mkdir()
    tar = shutil.which("tar") or "tar"
    subprocess.run([tar, "xz"], input=base64.b64decode("".join(parts)), cwd=folder, check=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == GATEWAY.files()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_what_vast_would_not_take_is_refused_before_a_machine_is_bought() -> None:
    large = WorkerGateway("llmhost", lambda: {"llmhost.yaml": secrets.token_hex(40_000)})
    with pytest.raises(ConfigError, match=r"vast\.ai takes 32,768"):
        environment(orders(gateway=large), IDENTITY)


def test_orders_become_an_environment() -> None:
    env = environment(
        orders(
            model="qwen2:7b",
            parallel=4,
            keep_alive=0.5,
            orphan_after=21600.0,
            max_body=1000,
            read_timeout=59.1,
            api_url="https://vast.example/",
        ),
        IDENTITY,
    )
    said = {
        name: value
        for name, value in env.items()
        if not name.startswith(("LLMHOST_CERT_", "LLMHOST_SCRIPT_"))
    }
    del said["LLMHOST_KEY"]
    assert said == {
        "-p 8443:8443": "1",
        "LLMHOST_TOKEN": IDENTITY.token,
        "LLMHOST_MODEL": "qwen2:7b",
        "LLMHOST_PARALLEL": "4",
        "LLMHOST_CONTEXT": "4096",
        "LLMHOST_KEEP_ALIVE": "1",
        "LLMHOST_ORPHAN_AFTER": "21600",
        "LLMHOST_MAX_BODY": "1000",
        "LLMHOST_READ_TIMEOUT": "60",
        "LLMHOST_API_URL": "https://vast.example",
    }


def test_every_variable_of_a_worker_is_known_as_one() -> None:
    names = [name for name in environment(orders(gateway=GATEWAY), IDENTITY) if name.startswith("LLMHOST_")]
    assert [name for name in names if not names_workers_variable(name)] == []


@pytest.mark.parametrize("name", ["LLMHOST_CONFIG", "LLMHOST_FLEET__NAME", "LLMHOST_STATE_DIR", "TOKEN", ""])
def test_what_configures_an_llmhost_is_no_workers_variable(name: str) -> None:
    assert not names_workers_variable(name)


def test_a_model_is_kept_for_ever_where_nothing_else_is_ordered() -> None:
    assert environment(orders(keep_alive=None), IDENTITY)["LLMHOST_KEEP_ALIVE"] == "-1"


def test_any_machine_that_reads_the_environment_knows_the_worker() -> None:
    env = environment(orders(), IDENTITY)
    facts = read_environment(dict(reversed(env.items())))
    assert (facts.model, facts.token, facts.certificate) == ("tiny", IDENTITY.token, IDENTITY.certificate)


def test_the_text_says_nothing_about_the_worker() -> None:
    assert IDENTITY.token not in unpacked()
    assert "tiny" not in unpacked()
