"""What a rented worker is sent for a gateway of its own (`fleet.gateway_on_worker`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from llmhost import __version__
from llmhost.cache.verifiers.load import LARGE
from llmhost.errors import ConfigError
from llmhost.fleet.providers.vast.identity import WorkerGateway
from llmhost.machine.paths import expand

if TYPE_CHECKING:
    from llmhost.config.models import Config

__all__ = ["worker_gateway"]

_CONFIG, _AUTHORITY = "llmhost.yaml", "redis-ca.pem"

#: of a section, what is not for a worker: files of this machine, what it may not write, where it listens
_ENGINE = {"model_path", "threads", "keep_alive"}
_CACHE = {"judge", "audit_share", "shadow", "conversations"}
_GATEWAY = {"aliases", "user_header", "max_body", "queue", "queue_timeout"}


def worker_gateway(config: Config) -> WorkerGateway:
    """The files are made, and `redis.ca_file` is read, when a worker is bought."""
    extra = "[verifier]" if config.cache.verifier == LARGE else ""
    package = config.fleet.gateway_package or f"llmhost{extra}=={__version__}"
    return WorkerGateway(package, lambda: _files(config))


def _files(config: Config) -> Mapping[str, str]:
    """By name: its configuration and, where Redis has one, the certificate of its authority. Raises
    ConfigError."""
    redis = config.redis
    files = {}
    if redis.ca_file is not None:
        path = expand(redis.ca_file)
        try:
            files[_AUTHORITY] = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"`redis.ca_file` {path} cannot be read: {error}") from error
    sent = _configuration(config, authority=_AUTHORITY if files else None)
    return {_CONFIG: yaml.safe_dump(sent, allow_unicode=True, sort_keys=False), **files}


def _configuration(config: Config, authority: str | None) -> dict[str, Any]:
    """What shapes an answer and its place in the cache is the operator's own, or the two would not find each
    other's answers. The variables are set by the worker's script."""
    redis, url = config.redis, config.redis.worker_url
    own = {
        "engine": config.engine.model_dump(mode="json", exclude_defaults=True, exclude=_ENGINE),
        "cache": config.cache.model_dump(mode="json", exclude_defaults=True, exclude=_CACHE),
        "limits": config.limits.model_dump(mode="json", exclude_defaults=True),
        "gateway": config.gateway.model_dump(mode="json", exclude_defaults=True, include=_GATEWAY),
        "redis": {
            "url": url.get_secret_value() if url else None,
            "ca_file": authority,
            "cluster": redis.cluster,
            "sharded": redis.sharded,
            "timeout": redis.timeout,
            "cache_only": True,
        },
    }
    fleet = {
        "name": config.fleet.name,
        "provider": "static",
        "price_per_hour": "${LLMHOST_PRICE}",
        "workers": [{"url": "${LLMHOST_ENGINE_URL}", "name": "${LLMHOST_WORKER}"}],
    }
    return {"fleet": fleet, **_literal(own)}


def _literal(value: Any) -> Any:
    """The value, in which nothing is taken for a variable."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {name: _literal(item) for name, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list) else value
