"""What proves that a rented worker is ours, and us to it: its certificate and its bearer token.

Both are made here before the worker is bought, and travel in its environment, a value of which may have
256 characters. vast.ai's list gives that back, so any machine with the account's key can speak to it.
"""

from __future__ import annotations

import base64
import gzip
import io
import math
import re
import secrets
import ssl
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from itertools import count, takewhile

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from llmhost.errors import ConfigError

__all__ = [
    "FRONT_PORT",
    "LONGEST_ENVIRONMENT",
    "Identity",
    "WorkerBootConfig",
    "WorkerCredentials",
    "WorkerGateway",
    "certificate_to_environment",
    "environment",
    "key_to_environment",
    "make_identity",
    "names_workers_variable",
    "onstart",
    "read_environment",
]

_LONGEST_VALUE = 256  #: characters; vast.ai's limit on one value of the environment
_TOKEN_BYTES = 32  #: as hard to guess as the certificate's key
_EARLY = timedelta(days=1)  #: clocks differ; a worker's or ours may be behind
_LIFE = timedelta(days=3650)  #: longer than any worker lives
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llmhost worker")])
_MODEL = "LLMHOST_MODEL"
_TOKEN = "LLMHOST_TOKEN"  # noqa: S105  the name of a variable
_CERTIFICATE = "LLMHOST_CERT_"
_SCRIPT = "LLMHOST_SCRIPT_"
_GATEWAY_FILES = "LLMHOST_GATEWAY_FILES_"
#: what `environment` gives a worker; others with the prefix configure an llmhost, wherever that runs
_WORKERS = re.compile(
    r"(?<![A-Z0-9_])LLMHOST_(TOKEN|KEY|MODEL|PARALLEL|CONTEXT|KEEP_ALIVE|ORPHAN_AFTER|MAX_BODY|READ_TIMEOUT|API_URL"
    r"|GATEWAY_PACKAGE|PRICE|(CERT|SCRIPT|GATEWAY_FILES)_[0-9]+)(?![A-Z0-9_])"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """`certificate` and `key` are PEM."""

    token: str = field(repr=False)
    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WorkerCredentials:
    """What a worker's environment says. `certificate` is PEM; None where there is none that can be read."""

    model: str
    token: str | None = field(repr=False)
    certificate: str | None


def make_identity(now: float) -> Identity:
    """A new identity that is valid at `now`, Unix seconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    today = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - _EARLY)
        .not_valid_after(today + _LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(secrets.token_urlsafe(_TOKEN_BYTES), _pem(certificate), secret.decode("ascii"))


def certificate_to_environment(certificate: str) -> dict[str, str]:
    """The PEM certificate as values that are short enough; its parts are numbered from 1."""
    der = x509.load_pem_x509_certificate(certificate.encode("ascii")).public_bytes(serialization.Encoding.DER)
    text = base64.b64encode(der).decode("ascii")
    return {f"{_CERTIFICATE}{number}": part for number, part in enumerate(_parts(text), 1)}


def _parts(text: str) -> Sequence[str]:
    return [text[start : start + _LONGEST_VALUE] for start in range(0, len(text), _LONGEST_VALUE)]


def key_to_environment(key: str) -> str:
    """The PEM key as a value that is short enough."""
    loaded = serialization.load_pem_private_key(key.encode("ascii"), password=None)
    der = loaded.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.b64encode(der).decode("ascii")


def read_environment(env: Mapping[str, str]) -> WorkerCredentials:
    """What `env` says of a worker. It may hold anything: what makes no sense is left out."""
    parts = takewhile(bool, (env.get(f"{_CERTIFICATE}{number}", "") for number in count(1)))
    return WorkerCredentials(env.get(_MODEL, ""), env.get(_TOKEN) or None, _read_certificate("".join(parts)))


def names_workers_variable(text: str) -> bool:
    """Whether a variable is named in it that the environment of workers has, and that of no other program."""
    return _WORKERS.search(text) is not None


@lru_cache(maxsize=1024)  # the list is read again and again, with the same certificates
def _read_certificate(text: str) -> str | None:
    """As PEM, where it is a certificate that TLS takes too: OpenSSL is stricter than what reads it first."""
    try:
        certificate = _pem(x509.load_der_x509_certificate(base64.b64decode(text, validate=True)))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except (ValueError, ssl.SSLError, x509.InvalidVersion, UnsupportedAlgorithm):
        return None
    return certificate


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


# What a rented worker runs: a script that is the same for all, configured by its environment.
#
# docs/worker.md says what the script does, and why.


#: where a worker's front door listens, inside its container
FRONT_PORT = 8443

#: characters; vast.ai's limit on all names and values of the environment
LONGEST_ENVIRONMENT = 32_768

_FOR_EVER = -1  #: what Ollama takes for keeping a model in memory for ever


@dataclass(frozen=True, slots=True)
class WorkerGateway:
    """The gateway of a worker: what pip installs, and the texts of its files by their names, which hold a
    password. `files` raises ConfigError where one cannot be read."""

    package: str
    files: Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class WorkerBootConfig:
    """What a worker serves, and how, with a context of `context` tokens for each of `parallel` requests.

    `keep_alive` is seconds that an idle model stays in memory, None for ever. A worker gives
    itself back `orphan_after` seconds after the last request with its token. `max_body` is bytes of
    one request, `read_timeout` seconds that its front door waits for the engine, `api_url` vast.ai's address.
    `gateway` None: nothing is between front door and engine. `price` is USD an hour, for its gateway.
    """

    model: str
    parallel: int
    context: int
    keep_alive: float | None
    orphan_after: float
    max_body: int
    read_timeout: float
    api_url: str
    gateway: WorkerGateway | None = None
    price: float = 0.0


def environment(orders: WorkerBootConfig, identity: Identity) -> dict[str, str]:
    """The worker's whole environment: its script too, and its port, which vast.ai takes for a variable.

    Raises ConfigError where vast.ai would not take it, or a file of the gateway cannot be read.
    """
    keep_alive = _FOR_EVER if orders.keep_alive is None else math.ceil(orders.keep_alive)
    env = {
        f"-p {FRONT_PORT}:{FRONT_PORT}": "1",
        "LLMHOST_TOKEN": identity.token,
        "LLMHOST_KEY": key_to_environment(identity.key),
        **certificate_to_environment(identity.certificate),
        "LLMHOST_MODEL": orders.model,
        "LLMHOST_PARALLEL": str(orders.parallel),
        "LLMHOST_CONTEXT": str(orders.context),
        "LLMHOST_KEEP_ALIVE": str(keep_alive),
        "LLMHOST_ORPHAN_AFTER": str(math.ceil(orders.orphan_after)),
        "LLMHOST_MAX_BODY": str(orders.max_body),
        "LLMHOST_READ_TIMEOUT": str(math.ceil(orders.read_timeout)),
        "LLMHOST_API_URL": orders.api_url.rstrip("/"),
        **_gateway_to_environment(orders),
        **_script_to_environment(with_gateway=orders.gateway is not None),
    }
    length = sum(len(name) + len(value) for name, value in env.items())
    if length > LONGEST_ENVIRONMENT:
        raise ConfigError(
            f"a worker would be sent {length:,} characters, and vast.ai takes {LONGEST_ENVIRONMENT:,}",
            hint="shorten `engine.system` or `gateway.aliases`, or set `fleet.gateway_on_worker: false`",
        )
    return env


def _gateway_to_environment(orders: WorkerBootConfig) -> Mapping[str, str]:
    """What the worker's gateway is installed and configured with: its files are a compressed archive."""
    if orders.gateway is None:
        return {}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in orders.gateway.files().items():
            data = content.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            archive.addfile(info, io.BytesIO(data))
    return {
        "LLMHOST_GATEWAY_PACKAGE": orders.gateway.package,
        "LLMHOST_PRICE": str(orders.price),
        **_numbered(_GATEWAY_FILES, packed.getvalue()),
    }


def onstart() -> str:
    """The text that vast.ai is to run at every boot, in any shell: the script is in the environment."""
    return f"env|sort|sed -n s/^{_SCRIPT}..=//p|base64 -d|zcat|bash"


@cache
def _script_to_environment(*, with_gateway: bool) -> Mapping[str, str]:
    """The script, compressed."""
    names = ("worker_gateway.sh", "setup_instance.sh") if with_gateway else ("setup_instance.sh",)
    texts = (resources.files(__package__).joinpath(name).read_text(encoding="ascii") for name in names)
    return _numbered(_SCRIPT, gzip.compress("".join(map(_shortened, texts)).encode("ascii"), mtime=0))


def _numbered(prefix: str, packed: bytes) -> Mapping[str, str]:
    """In values that are short enough, numbered from 01, which sorts them."""
    parts = _parts(base64.b64encode(packed).decode("ascii"))
    return {f"{prefix}{number:02}": part for number, part in enumerate(parts, 1)}


def _shortened(script: str) -> str:
    """The script without what is there for people alone: comments, indentation, empty and broken lines."""
    lines = (re.sub(r"(^|\s+)# .*|^#!.*", "", line.strip()) for line in script.splitlines())
    return "\n".join(line for line in lines if line).replace(" \\\n", " ") + "\n"
