"""The OpenAPI document, and what comes of everything that a client can make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest
import schemathesis
from doubles.gateway_house import AddKey, House, Serve, bearer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from llmhost.gateway.app import Gateway
from llmhost.gateway.fleets import ServedFleets
from llmhost.gateway.observe import Observation
from llmhost.gateway.openapi import document

#: requests to each operation, half of them as the document says and half not
EXAMPLES = 10


async def test_it_has_the_paths_of_all_routes(house: House) -> None:
    routes = Gateway(ServedFleets([], {}), cast("Any", None), max_body=1, observation=Observation()).routes()
    told = {route.path.replace(":path}", "}") for route in routes}
    assert set((await house.http.get("/openapi.json")).json()["paths"]) == told


async def test_each_path_takes_the_method_that_it_names(house: House) -> None:
    refused = {}
    for path, method in operations():
        answer = await house.http.request(method, path.replace("{model}", "tiny"), content=b"{}")
        if answer.status_code == 405:
            refused[path] = method
    assert refused == {}


async def test_it_needs_a_key_where_other_paths_do(serve: Serve, add_key: AddKey) -> None:
    async with serve(gateway={"keys": "always"}) as house:
        assert (await house.http.get("/openapi.json")).status_code == 401
        allowed = await house.http.get("/openapi.json", headers=bearer(await add_key()))
    assert allowed.json()["openapi"] == "3.1.0"


@pytest.mark.slow
async def test_no_request_is_an_error_of_the_gateway(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Neither one that the document allows, nor one that it does not."""
    await asyncio.to_thread(fuzz, house.url)
    assert [record.getMessage() for record in caplog.records if record.name == "llmhost.gateway"] == []


def fuzz(url: str) -> None:
    told = with_models(document(), ["tiny", "all-minilm"])
    for found in schemathesis.openapi.from_dict(told).get_all_operations():
        assert isinstance(found, Ok)
        modes = [found.ok().as_strategy(generation_mode=mode) for mode in GenerationMode]

        @settings(
            max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=st.one_of(modes))
        def ask(case: Case[Any]) -> None:
            answer = case.call(base_url=url, timeout=60)
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            assert b"Traceback" not in answer.content
            case.validate_response(answer, checks=[content_type_conformance, response_schema_conformance])

        ask()


def operations() -> Iterator[tuple[str, str]]:
    for path, methods in document()["paths"].items():
        yield from ((path, method.upper()) for method in methods)


def with_models(value: Any, names: list[str]) -> Any:
    """The document where a model's name is one of these, so that requests get further than that."""
    if isinstance(value, dict):
        changed = {key: with_models(one, names) for key, one in value.items()}
        if isinstance(properties := changed.get("properties"), dict) and "model" in properties:
            properties["model"] = {"enum": names}
        return changed
    return [with_models(one, names) for one in value] if isinstance(value, list) else value
