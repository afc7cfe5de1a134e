"""Which server a configuration means."""

from __future__ import annotations

import ssl
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import SSLConnection, UnixDomainSocketConnection

from llmhost.config.models import RedisConfig
from llmhost.errors import ConfigError
from llmhost.store.client import address_options


def options(**keys: Any) -> dict[str, Any]:
    return address_options(RedisConfig.model_validate(keys), None)


def login(**keys: Any) -> tuple[str | None, str | None]:
    found = options(**keys)
    return found["username"], found["password"]


def test_host_port_and_database_are_taken_as_they_stand() -> None:
    found = options(host="redis.example", port=6380, db=2)
    assert found == {"host": "redis.example", "port": 6380, "db": 2, "username": None, "password": None}


def test_a_url_says_the_same_as_its_parts() -> None:
    parts = options(host="redis.example", port=6380, db=2, username="bob", password="pw")
    assert options(url="redis://bob:pw@redis.example:6380/2") == parts


def test_a_url_without_port_and_database_uses_the_ones_beside_it() -> None:
    found = options(url="redis://redis.example", db=4)
    assert (found["port"], found["db"]) == (6379, 4)


def test_a_url_without_login_uses_the_one_beside_it() -> None:
    assert login(url="redis://h", username="bob", password="pw") == ("bob", "pw")


def test_the_login_of_a_url_goes_before_the_one_beside_it() -> None:
    assert login(url="redis://eve:other@h", username="bob", password="pw") == ("eve", "other")


def test_an_empty_password_is_none() -> None:
    assert login(host="h", password="") == (None, None)


def test_an_address_of_version_6_is_understood() -> None:
    assert options(url="redis://[::1]:6380")["host"] == "::1"


def test_a_unix_url_names_a_path_and_a_database() -> None:
    found = options(url="unix:///run/my%20redis.sock?db=3")
    assert (found["connection_class"], found["path"], found["db"]) == (
        UnixDomainSocketConnection,
        "/run/my redis.sock",
        3,
    )


def test_the_embedded_socket_goes_before_everything_and_knows_no_password() -> None:
    config = RedisConfig.model_validate({"host": "h", "password": "pw", "db": 1})
    assert address_options(config, Path("/s/redis.sock")) == {
        "connection_class": UnixDomainSocketConnection,
        "path": "/s/redis.sock",
        "db": 1,
    }


@pytest.mark.parametrize("keys", [{"url": "rediss://h"}, {"url": "redis://h", "tls": True}])
def test_tls_always_checks_certificate_and_name(keys: dict[str, Any]) -> None:
    found = options(**keys)
    assert found["connection_class"] is SSLConnection
    assert found["ssl_cert_reqs"] == "required"
    assert found["ssl_check_hostname"] is True
    assert found["ssl_min_version"] is ssl.TLSVersion.TLSv1_2


def test_no_server_at_all_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        options()
    assert caught.value.hint == "set `redis.url` or `redis.host`"


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///3",
        "redis://host/three",
        "redis://host/3/4",
        "redis://host/²",
        "redis://host:0",
        "redis://host:99999",
        "redis://host:port",
        "redis://[::1",
        "redis://host#fragment",
        "redis://host?protocol=3",
        "rediss://host?ssl_cert_reqs=none",
        "unix://",
        "unix://relative/path",
        "unix:///path?db=x",
    ],
)
def test_a_url_that_is_not_what_it_seems_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not an address that llmhost can use"):
        options(url=url)


@pytest.mark.parametrize("url", ["redis://:se/cret@h", "redis://:se#cret@h", "redis://u:1?secret@h:1"])
def test_pieces_of_a_password_that_was_not_escaped_are_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(url=url)
    shown = "".join(traceback.format_exception(caught.value, limit=0)) + str(caught.value.hint)
    assert "cret" not in shown


@given(
    user=st.text(st.characters(codec="utf-8"), min_size=1),
    secret=st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_any_escaped_login_arrives_as_it_was(user: str, secret: str) -> None:
    assert login(url=f"redis://{quote(user, safe='')}:{quote(secret, safe='')}@h") == (user, secret)


@given(st.text(st.characters(codec="utf-8")))
def test_any_url_gives_options_or_a_config_error(rest: str) -> None:
    try:
        found = options(url=f"redis://{rest}")
    except ConfigError:
        return
    assert found["host"]
    assert 0 < found["port"] < 65536


def test_an_authority_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.pem cannot be used: No such file"):
        options(host="h", tls=True, ca_file=str(tmp_path / "nowhere.pem"))


def test_an_authority_file_without_a_certificate_is_named() -> None:
    with pytest.raises(ConfigError, match=r"test_address\.py cannot be used: it holds no certificate"):
        options(host="h", tls=True, ca_file=__file__)
