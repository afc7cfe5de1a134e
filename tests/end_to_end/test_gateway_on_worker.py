"""A fleet whose workers have gateways of their own, as a user rents it."""

from __future__ import annotations

import base64
import io
import tarfile

import pytest
import yaml
from doubles.waiting import until
from plugins.rented_commands import RentedHouse, bought

pytestmark = pytest.mark.slow

#: no machine: the gateway of this worker answers without a cache, if it is installed
WORKER_URL = "rediss://llmhost-worker:its-own-password@redis.example.com:6380/0"


async def test_up_sends_what_a_gateway_needs_and_status_says_whether_it_serves(
    rented_house: RentedHouse,
) -> None:
    house = rented_house
    fleet = {"gateway_on_worker": True, "gateway_package": "/nowhere/llmhost-9.9-py3-none-any.whl"}
    house.configure(fleet=fleet, redis={"worker_url": WORKER_URL})
    up = await house.ok("up", "--gpus", "1", "--yes")
    (worker,) = up["workers"]
    assert worker["ready"]

    environ = house.container(f"vast-{bought(1)}").environ
    parts = [environ[name] for name in sorted(environ) if name.startswith("LLMHOST_GATEWAY_FILES_")]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode("".join(parts)))) as archive:
        (file,) = archive.getnames()
        sent = archive.extractfile(file)
        assert sent is not None
        text = sent.read().decode()
    assert yaml.safe_load(text)["redis"]["url"] == WORKER_URL
    assert environ["LLMHOST_PRICE"] == str(worker["price_per_hour"])
    assert house.server.key not in text + str(environ)

    async def gateway() -> str | None:
        (gpu,) = (await house.ok("status", "--gpu"))["gpus"]
        said: str | None = gpu["gateway"]
        return said if said and "cannot be installed" in said else None

    assert (await until(gateway, pause=1)).startswith("its gateway does not serve: it cannot be installed: ")
    assert (await house.ok("ask", "What is Redis?"))["source"] == "engine"
    assert "its-own-password" not in "".join(str(done) for done in house.said)
