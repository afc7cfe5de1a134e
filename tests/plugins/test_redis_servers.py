"""The servers that a test can name are what their names say."""

from __future__ import annotations

import pytest
from plugins.redis_servers import ClientOf
from redis.asyncio import SSLConnection
from redis.exceptions import ResponseError

VERSIONS = {"redis-6.2": "6.2.", "valkey-9.1": "9.1.", "redis-8.2": "8.2.", "redis-8.2-search": "8.2."}
VECTOR_SETS = {"redis-8.2", "redis-8.2-search"}
SEARCH = {"redis-8.2-search"}


@pytest.mark.parametrize("name", VERSIONS)
async def test_a_server_has_the_version_in_its_name(client_of: ClientOf, name: str) -> None:
    info = await client_of(name).info("server")
    assert str(info.get("valkey_version", info["redis_version"])).startswith(VERSIONS[name])


@pytest.mark.as_admin
@pytest.mark.parametrize("name", VERSIONS)
async def test_a_server_knows_the_commands_that_it_is_named_for(client_of: ClientOf, name: str) -> None:
    client = client_of(name)

    async def knows(*command: str) -> bool:
        try:
            await client.execute_command(*command)
        except ResponseError as error:
            return "unknown command" not in str(error)
        return True

    assert await knows("VCARD", "none") == (name in VECTOR_SETS)
    assert await knows("FT._LIST") == (name in SEARCH)


async def test_the_server_of_the_operating_system_answers(client_of: ClientOf) -> None:
    assert await client_of("system").ping()


async def test_with_a_user_of_few_rights_tests_have_these_alone_and_over_tls_where_the_server_speaks_it(
    pytestconfig: pytest.Config, client_of: ClientOf
) -> None:
    name = pytestconfig.getoption("--redis-user")
    if name is None:
        pytest.skip("needs --redis-user")
    client = client_of("default")
    assert (await client.client_info())["user"] == "llmhost"
    for refused in (("CONFIG", "GET", "maxmemory"), ("GET", "elsewhere:response:x")):
        with pytest.raises(ResponseError):
            await client.execute_command(*refused)
    is_tls = client.connection_pool.connection_class is SSLConnection
    assert is_tls == (name == "system")
