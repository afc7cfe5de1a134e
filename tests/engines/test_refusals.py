"""What clients are told of a request that an engine refuses."""

from __future__ import annotations

import pytest

from llmhost.engines.refusals import refusal_of
from llmhost.errors import ContextExceeded

CONTEXT = "the prompt is too long: this model's maximum context length is exceeded"
OF_4096 = (
    "the prompt is too long: 9000 tokens > 4096 maximum; this model's maximum context length is 4096 tokens"
)

TOO_LONG = [
    ("request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it", OF_4096),
    ("the request exceeds the available context size, try increasing it", CONTEXT),
    ("input (9000 tokens) is larger than the max context size (4096 tokens). skipping", OF_4096),
    (
        "input (9000 tokens) is too large to process. increase the physical … (current batch size: 4096)",
        OF_4096,
    ),
    ("the input length exceeds the context length", CONTEXT),
    ("input exceeds maximum context length and cannot be truncated further", CONTEXT),
    (
        "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens (…).",
        "the prompt is too long: this model's maximum context length is 4096 tokens",
    ),
    ("prompt is too long: 9000 tokens > 4096 maximum", OF_4096),
]

OTHERS = [
    ("registry.example/gemma:2b does not support tools", "this model does not support tools"),
    ("tools param requires --jinja flag", "this model does not support tools"),
    (
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "this model does not support tools",
    ),
    ('"qwen:4b" does not support thinking', "this model does not support thinking"),
    (
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "this model does not support images",
    ),
    ("this model is missing data required for image input", "this model does not support images"),
    ("audio input is not supported - hint: …", "this model does not support audio"),
    ("Infill is not supported by this model: prefix token", "this model does not support insert"),
    (
        "This server does not support embeddings. Start it with `--embeddings`",
        "this model does not support embeddings",
    ),
    ('"all-minilm" does not support chat', "this model does not support chat"),
    ("top_p must be in (0, 1], got 2.0.", "`top_p` must be another value for this engine"),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 9. The maximum context length is 4 tokens",
        "`max_tokens` must be another value for this engine",
    ),
    ('option "top_k" must be of type integer', "`top_k` must be another value for this engine"),
    ("failed to parse grammar", "the schema or grammar of the answer's format is invalid"),
    (
        "JSON schema conversion failed: Unrecognized schema",
        "the schema or grammar of the answer's format is invalid",
    ),
]


@pytest.mark.parametrize(("said", "told"), TOO_LONG + OTHERS)
def test_what_a_client_can_do_something_about_is_told_in_our_words(said: str, told: str) -> None:
    refusal = refusal_of(said)
    assert refusal is not None
    assert (refusal.public, refusal.message) == (told, f"{told}: {said}")
    assert isinstance(refusal, ContextExceeded) == ((said, told) in TOO_LONG)


@pytest.mark.parametrize("told", sorted({told for _, told in TOO_LONG + OTHERS}))
def test_what_a_gateway_of_a_worker_tells_is_told_again(told: str) -> None:
    refusal = refusal_of(told)
    assert refusal is not None
    assert refusal.public == told


@pytest.mark.parametrize(
    "said",
    [
        "model 'tiny' not found, try pulling it first",
        "Context size has been exceeded.",  # by other requests to llama.cpp: this one may fit later
        "unable to load model: /models/x.gguf: gguf file format is invalid",
        "gguf file format is invalid",
        "unable to load the model: it does not support vision",
        "no answer to: temperature must be high",
        "the GPU is on fire at 10.0.0.7:8000",
        "",
    ],
)
def test_other_words_are_of_no_kind(said: str) -> None:
    assert refusal_of(said) is None
