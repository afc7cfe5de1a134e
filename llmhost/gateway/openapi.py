"""What the gateway answers, as an OpenAPI document: `/openapi.json`.

The operations are listed here; what a body may be is said by the models that read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from pydantic import TypeAdapter

from llmhost import __version__
from llmhost.gateway import anthropic, embeddings, ollama, ollama_models, openai, page, responses
from llmhost.gateway.command import COMMAND_BODY, COMMAND_PATH
from llmhost.gateway.figures import PERIODS

__all__ = ["document", "document_bytes"]

_JSON, _EVENTS, _LINES = "application/json", "text/event-stream", "application/x-ndjson"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Operation:
    """`api` names its tag and the shape of its errors, `media` what an answer may be."""

    api: str
    method: str
    path: str
    summary: str
    body: TypeAdapter[Any] | None = None
    media: Sequence[str] = (_JSON,)
    parameters: Sequence[Mapping[str, Any]] = ()


def _parameter(place: str, name: str, schema: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
    return {"in": place, "name": name, "schema": schema, **more}


_CACHE = (
    _parameter(
        "header",
        "Cache-Control",
        {"type": "string"},
        description="`no-cache`, `no-store`, `max-age=SECONDS`, `only-if-cached`",
    ),
)
_VERSION = _parameter(
    "header", "anthropic-version", {"type": "string"}, description="asks for the answer in Anthropic's form"
)
_FLEET = _parameter("query", "fleet", {"type": "string"}, description="the first one if it is left out")
_PERIOD = _parameter("query", "period", {"enum": list(PERIODS)})
_MARK = _parameter("header", page.MARK, {"type": "string", "minLength": 1}, required=True)


def _in_path(name: str) -> Mapping[str, Any]:
    return _parameter("path", name, {"type": "string", "minLength": 1}, required=True)


_OPERATIONS = (
    _Operation("OpenAI", "post", "/v1/chat/completions", "Chat", openai.CHAT_BODY, (_JSON, _EVENTS), _CACHE),
    _Operation(
        "OpenAI",
        "post",
        "/v1/completions",
        "An answer to each prompt",
        openai.COMPLETION_BODY,
        (_JSON, _EVENTS),
        _CACHE,
    ),
    _Operation(
        "OpenAI",
        "post",
        "/v1/responses",
        "Chat, of which nothing is stored",
        responses.RESPONSE_BODY,
        (_JSON, _EVENTS),
        _CACHE,
    ),
    _Operation("OpenAI", "post", "/v1/embeddings", "Vectors of texts", embeddings.OPENAI_BODY),
    _Operation("OpenAI", "get", "/v1/models", "The models", parameters=(_VERSION,)),
    _Operation("OpenAI", "get", "/v1/models/{model}", "A model", parameters=(_in_path("model"), _VERSION)),
    _Operation(
        "Anthropic", "post", "/v1/messages", "Chat", anthropic.MESSAGES_BODY, (_JSON, _EVENTS), _CACHE
    ),
    _Operation(
        "Anthropic",
        "post",
        "/v1/messages/count_tokens",
        "An estimate of a request's tokens",
        anthropic.COUNT_BODY,
    ),
    _Operation("Ollama", "post", "/api/chat", "Chat", ollama.CHAT_BODY, (_JSON, _LINES), _CACHE),
    _Operation(
        "Ollama",
        "post",
        "/api/generate",
        "An answer to a prompt",
        ollama.GENERATE_BODY,
        (_JSON, _LINES),
        _CACHE,
    ),
    _Operation("Ollama", "post", "/api/embed", "Vectors of texts", embeddings.EMBED_BODY),
    _Operation("Ollama", "post", "/api/embeddings", "The vector of a text", embeddings.PROMPT_BODY),
    _Operation("Ollama", "get", "/api/version", "The version of Ollama whose API this is"),
    _Operation("Ollama", "get", "/api/tags", "The models"),
    _Operation("Ollama", "get", "/api/ps", "The models of fleets that have a worker"),
    _Operation("Ollama", "post", "/api/show", "A model", ollama_models.SHOW_BODY),
    *(
        _Operation(
            "Ollama",
            "delete" if path == "/api/delete" else "post",
            path.replace(":path", ""),
            "Refused: models are not changed here",
            parameters=(_in_path("digest"),) if "{" in path else (),
        )
        for path in ollama_models.REFUSED
    ),
    _Operation("llmhost", "get", "/healthz", "Whether the gateway runs"),
    _Operation("llmhost", "get", "/readyz", "Whether there is a worker, or one may be started"),
    _Operation("llmhost", "get", "/metrics", "Figures for Prometheus", media=("text/plain",)),
    _Operation("llmhost", "get", "/health/backlog", "How many connections wait, and for what"),
    _Operation("llmhost", "get", "/openapi.json", "This document"),
    _Operation("llmhost", "get", "/", "The page", media=(_TEXT, "text/html; charset=utf-8")),
    *(
        _Operation("llmhost", "get", path, "A file of the page", media=(kind,))
        for path, (_, kind) in page.FILES.items()
    ),
    _Operation("llmhost", "get", "/llmhost/gateway", "What the page may show"),
    _Operation(
        "llmhost", "get", "/llmhost/overview", "A fleet and its figures", parameters=(_FLEET, _PERIOD)
    ),
    _Operation("llmhost", "get", "/llmhost/hits", "Recent semantic hits", parameters=(_FLEET,)),
    _Operation(
        "llmhost", "post", "/llmhost/label", "A verdict on a hit", page.LABEL_BODY, parameters=(_MARK,)
    ),
    _Operation(
        "llmhost",
        "post",
        COMMAND_PATH,
        "For `llmhost ask` and `llmhost chat`, through the Unix socket alone",
        COMMAND_BODY,
        (_LINES,),
    ),
)

#: an error as each API writes it
_ERRORS: Mapping[str, Any] = {
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                },
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error", "request_id"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
            "request_id": {"type": "string"},
        },
    },
    "OllamaError": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    },
}


def document() -> dict[str, Any]:
    """The document, a JSON value."""
    schemas: dict[str, Any] = dict(_ERRORS)
    paths: dict[str, Any] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _written(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llmhost",
            "version": __version__,
            "description": "OpenAI's, Anthropic's and Ollama's APIs, answered from the cache or by a worker.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        # Where no key is needed, none need be sent.
        "security": [{"bearer": []}, {"key": []}, {}],
    }


@cache
def document_bytes() -> bytes:
    return orjson.dumps(document())


def _written(operation: _Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    """The operation; the schemas that its body needs are added to `schemas`."""
    written: dict[str, Any] = {
        "tags": [operation.api],
        "summary": operation.summary,
        "responses": {
            "200": {"description": "the answer", "content": {kind: {} for kind in operation.media}},
            "default": {"description": "an error", "content": {_JSON: {"schema": _error(operation)}}},
        },
    }
    if operation.parameters:
        written["parameters"] = list(operation.parameters)
    if operation.body is not None:
        schema = operation.body.json_schema(ref_template=f"#/components/schemas/{operation.api}{{model}}")
        schemas |= {f"{operation.api}{name}": one for name, one in schema.pop("$defs", {}).items()}
        written["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    return written


def _error(operation: _Operation) -> Mapping[str, Any]:
    names = ["OpenAIError"] if operation.api == "llmhost" else [f"{operation.api}Error"]
    if _VERSION in operation.parameters:
        names.append("AnthropicError")
    shapes = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
