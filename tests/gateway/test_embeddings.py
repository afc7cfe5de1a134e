"""Embeddings, asked for by the clients of OpenAI and of Ollama."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import numpy as np
import ollama
import openai
import pytest
from doubles.chat_server import vector_of
from doubles.gateway_house import AddKey, House, Serve, bearer
from doubles.ollama_server import OllamaServer

from llmhost.cache.contracts import EmbeddedText
from llmhost.cache.embedders.load import load_embedder
from llmhost.config.models import Config
from llmhost.gateway.embeddings import MOST_TEXTS, EmbedBody, Embeddings, PromptBody
from llmhost.gateway.exchange import Exchange
from llmhost.gateway.fleets import ServedFleet, ServedFleets

NAME = "all-MiniLM-L6-v2"
TEXTS = ["What is Redis?", "Why is the sky blue?", "What does 🦜 mean?", "Is it so?", "Say hello to me now."]


@pytest.fixture
async def client(house: House) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
async def of_ollama(house: House) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(house.url) as made:
        yield made


async def test_vectors_are_those_of_the_cache(
    client: openai.AsyncOpenAI, of_ollama: ollama.AsyncClient
) -> None:
    embedder = load_embedder(NAME, on_progress=print)
    of_cache = [embedder.embed(text) for text in TEXTS]
    given = (await client.embeddings.create(model=NAME, input=TEXTS)).data
    embedded = (await of_ollama.embed("all-minilm", TEXTS)).embeddings
    assert [one.index for one in given] == list(range(len(TEXTS)))
    for vectors in ([one.embedding for one in given], embedded):
        for vector, known in zip(vectors, of_cache, strict=True):
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
            if known is not None:  # the cache does not compare a text with an emoji
                np.testing.assert_allclose(vector, known, atol=1e-5)


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_both_encodings_say_the_same(house: House, client: openai.AsyncOpenAI, encoding: Any) -> None:
    usual = await client.embeddings.create(model=NAME, input="Hi")
    answer = await client.embeddings.create(model=NAME, input="Hi", encoding_format=encoding)
    if encoding == "base64":
        assert isinstance(answer.data[0].embedding, str)
    else:
        np.testing.assert_allclose(answer.data[0].embedding, usual.data[0].embedding, atol=1e-7)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)


@pytest.mark.parametrize(
    "name",
    [NAME, f"sentence-transformers/{NAME}", "all-minilm", "all-minilm:latest", "All-MiniLM-L6-v2:latest"],
)
async def test_the_model_has_several_names(client: openai.AsyncOpenAI, name: str) -> None:
    assert len((await client.embeddings.create(model=name, input="Hi")).data[0].embedding) == 384
    assert (await client.models.retrieve(name)).id == name


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input": ""}, "must not be empty"),
        ({"input": []}, "must not be empty"),
        ({"input": ["Hi", ""]}, "must not be empty"),
        ({"input": [1, 2, 3]}, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "check_embedding_ctx_length=False"),
        ({"input": {"text": "Hi"}}, "must be a text"),
        ({"input": ["Hi", "word " * 300]}, "text 1 is longer than the 256 tokens"),
        ({"input": "x" * 40_000}, "the limit is 32,000"),
        ({"input": ["Hi"] * (MOST_TEXTS + 1)}, "the limit is 2,048"),
        ({"input": "Hi", "dimensions": 256}, "384 dimensions"),
        ({"input": "Hi", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(client: openai.AsyncOpenAI, fields: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        await client.embeddings.create(model=NAME, **fields)


async def test_a_model_that_gives_no_embeddings_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="those that do: all-minilm"):
        await client.embeddings.create(model="text-embedding-3-small", input="Hi")


async def test_a_name_for_all_models_is_none_of_an_embedding_model(serve: Serve) -> None:
    async with (
        serve(gateway={"aliases": {"*": "tiny"}}) as house,
        openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none") as client,
    ):
        with pytest.raises(openai.NotFoundError, match="gives no embeddings"):
            await client.embeddings.create(model="text-embedding-3-small", input="Hi")


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_the_engine_embeds_by_its_model_s_name(
    house: House, client: openai.AsyncOpenAI, encoding: Any
) -> None:
    house.engine.embeds = True
    texts = [f"text {number}" for number in range(40)]
    raw = await client.embeddings.with_raw_response.create(
        model="tiny", input=texts, encoding_format=encoding
    )
    answer = raw.parse()
    for one, text in zip(answer.data, texts, strict=True):
        vector: Any = one.embedding
        if encoding == "base64":
            vector = np.frombuffer(base64.b64decode(vector), dtype="<f4")
        np.testing.assert_allclose(vector, vector_of(text, 4), atol=1e-6)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (80, 80)
    assert raw.headers["x-llmhost-cache"] == "bypass"
    assert raw.headers["x-llmhost-worker"]
    assert [len(request.json["input"]) for request in house.engine.requests] == [32, 8]


async def test_what_the_engine_says_of_embeddings_is_passed_on(
    house: House, client: openai.AsyncOpenAI, of_ollama: ollama.AsyncClient
) -> None:
    with pytest.raises(openai.BadRequestError, match="the engine gives no embeddings"):
        await client.embeddings.create(model="tiny", input="Hi")
    house.engine.embeds = False
    with pytest.raises(openai.BadRequestError, match="Start it with `--embeddings`"):
        await client.embeddings.create(model="tiny", input="Hi")
    with pytest.raises(ollama.ResponseError, match="Start it with `--embeddings`") as caught:
        await of_ollama.embed("tiny", "Hi")
    assert caught.value.status_code == 400
    assert (await house.chat()).status_code == 200  # the worker is not left alone for it


async def test_a_fleet_may_serve_a_model_that_only_embeds(serve: Serve) -> None:
    async with OllamaServer("embed:latest") as worker:
        worker.chats = False
        sections: Any = {
            "fleet": {"provider": "static", "workers": [{"url": worker.url}]},
            "engine": {"kind": "ollama", "model": "embed"},
        }
        async with serve(**sections) as house, ollama.AsyncClient(house.url) as client:
            answer = await client.embed("embed:latest", ["one two", "three"], dimensions=6)
            assert answer.embeddings == [vector_of("one two", 6), vector_of("three", 6)]
            assert answer.prompt_eval_count == 3
            assert (await client.embeddings("embed", "Hi")).embedding == vector_of("Hi", 4)
            assert (await client.embed("embed", [])).embeddings == []
            sent = [request.json for request in worker.requests if request.path == "/api/embed"]
            assert [one["truncate"] for one in sent[-2:]] == [True, True]
            with pytest.raises(ollama.ResponseError, match="does not support chat"):
                await client.chat("embed", [{"role": "user", "content": "Hi"}])


async def test_a_key_that_may_not_ask_for_the_model_gets_no_embeddings_of_it(
    serve: Serve, add_key: AddKey
) -> None:
    async with serve() as house:
        house.engine.embeds = True
        for model, status in (("tiny", 200), ("another", 404)):
            key = bearer(await add_key(models=(model,)))
            answer = await house.http.post(
                "/v1/embeddings", json={"model": "tiny", "input": "Hi"}, headers=key
            )
            assert answer.status_code == status


async def test_the_dimensions_that_a_vector_has_may_be_asked_for(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model=NAME, input="Hi", dimensions=384)
    assert len(answer.data[0].embedding) == 384


async def test_ollama_s_clients_get_the_beginning_of_a_long_text(of_ollama: ollama.AsyncClient) -> None:
    cut = await of_ollama.embed("all-minilm", "word " * 300)
    assert cut.prompt_eval_count == 256
    assert cut.embeddings == (await of_ollama.embed("all-minilm", "word " * 254)).embeddings
    with pytest.raises(ollama.ResponseError, match="longer than the 256 tokens"):
        await of_ollama.embed("all-minilm", "word " * 300, truncate=False)


async def test_ollama_s_older_route_embeds_one_text(of_ollama: ollama.AsyncClient, house: House) -> None:
    (vector,) = (await of_ollama.embed("all-minilm", "Hi")).embeddings
    assert (await of_ollama.embeddings("all-minilm", "Hi")).embedding == vector
    empty = await house.http.post("/api/embeddings", json={"model": "all-minilm", "prompt": ""})
    assert empty.json() == {"embedding": []}


@pytest.mark.parametrize("given", ["", []])
async def test_no_text_has_no_vector_in_ollama_s_api(of_ollama: ollama.AsyncClient, given: Any) -> None:
    assert (await of_ollama.embed("all-minilm", given)).embeddings == []


async def test_the_embedding_model_may_have_an_alias(serve: Serve) -> None:
    async with (
        serve(gateway={"aliases": {"text-embedding-3-small": "all-minilm"}}) as house,
        openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none") as client,
    ):
        assert [model.id async for model in await client.models.list()][1:] == [
            "all-minilm",
            "text-embedding-3-small",
        ]
        answer = await client.embeddings.create(model="text-embedding-3-small", input="Hi")
        assert (answer.model, len(answer.data[0].embedding)) == ("text-embedding-3-small", 384)


class Recorder:
    """An embedder that notes what it is given."""

    id, dimensions, max_tokens = "recorder", 1, 256

    def __init__(self) -> None:
        self.given: list[str] = []

    def embed(self, text: str) -> None:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str], *, cut: bool) -> Sequence[EmbeddedText]:
        self.given.append(texts[0])
        return [EmbeddedText(np.ones(1, dtype=np.float32), 1) for _ in texts]


async def test_a_long_request_lets_others_have_their_turn() -> None:
    config = {
        "fleet": {"provider": "static", "workers": [{"url": "http://127.0.0.1:1"}]},
        "engine": {"kind": "openai", "model": "tiny"},
    }
    embedder = Recorder()

    async def load() -> Recorder:
        return embedder

    fleet = ServedFleet(Config.model_validate(config), cast("Any", None), load)
    embeddings = Embeddings(ServedFleets([fleet], {}))
    long, short = EmbedBody(model=NAME, input=["long"] * 40), PromptBody(model=NAME, prompt="short")
    one, other = (Exchange({"headers": []}, cast("Any", None), cast("Any", None)) for _ in range(2))
    await asyncio.gather(embeddings.embed(long, one), embeddings.prompt(short, other))
    assert embedder.given.index("short") == 1


async def test_embeddings_need_no_worker(serve: Serve) -> None:
    async with serve(workers=0) as house, ollama.AsyncClient(house.url) as client:
        assert len((await client.embed("all-minilm", "Hi")).embeddings) == 1
