"""What becomes of each field of a request: one rule for all APIs.

The module of an API reads fields, and translates them into those of OpenAI's chats. Any other field

- says nothing about the answer, or what is the case without it: it is left out;
- or asks for what is impossible here: status 400;
- or is passed to the engine as it came. Where the gateway does not know it, the cache is not asked: it would
  give an answer that was made without the field. So it is with an unknown field that has no place in a chat,
  as within a message; it is left out.

Unknown fields are not refused, since clients get new ones all the time, most of which mean nothing to an
engine. They are named to the client instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from llmhost.answering.question import CACHEABLE_FIELDS
from llmhost.gateway.faults import BadRequest

__all__ = [
    "ANTHROPIC",
    "COMPLETIONS",
    "GENERATED",
    "OLLAMA",
    "OPENAI",
    "RESPONSES",
    "Fields",
    "UnreadFields",
]

#: fields of any API that say nothing about the answer
_INDIFFERENT = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
    | {"prompt_cache_options", "prompt_cache_retention", "stream_options", "stream"}
    | {"keep_alive"}  # how long Ollama keeps a model is `engine.keep_alive`, not a client's to say
)
#: values that say what is the case without them; a client that sends them asks the same question
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "functions": ([],),
    "reasoning_effort": ("",),
    "verbosity": ("medium",),
    "options": ({},),
}
#: fields that only mean something with tools
_OF_TOOLS = ("tool_choice", "parallel_tool_calls")
#: fields of any API that ask for what is impossible, and why it is
_IMPOSSIBLE = {
    "audio": "answers are texts",
    "modalities": "answers are texts",
    "functions": "send them as `tools`",
    "n": "this API has one answer to a request",
}
#: fields of a chat that engines know, or refuse
_KNOWN = (
    CACHEABLE_FIELDS
    | {"tools", "tool_choice", "parallel_tool_calls", "logprobs", "top_logprobs"}
    | {"shift", "truncate"}
)
#: options of Ollama's API for how a server runs its model: they say nothing about the answer, and another
#: value would make it load the model again, for everyone. So is `num_ctx`: the context is `engine.context`,
#: and what does not fit is refused. They are left out.
_SERVER_OPTIONS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "numa", "low_vram", "f16_kv"}
    | {"logits_all", "vocab_only", "use_mmap", "use_mlock", "embedding_only"}
)
#: and those for how an answer is chosen; engines with another API take those of the same names that they have
_ANSWER_OPTIONS = frozenset(
    {"temperature", "top_k", "top_p", "min_p", "typical_p", "tfs_z", "seed", "stop", "num_predict"}
    | {"repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty", "penalize_newline"}
    | {"mirostat", "mirostat_eta", "mirostat_tau", "draft_num_predict"}
)
#: fields that the gateway writes itself: where an API has none of that name, it cannot be passed on
_WRITTEN = frozenset(
    {"messages", "prompt", "stop", "temperature", "top_p", "seed"} | {"max_tokens", "max_completion_tokens"}
)


@dataclass(frozen=True, slots=True)
class Fields:
    """Those with which an engine is asked, as OpenAI's chats call them, and the names of the unknown ones."""

    passed: Mapping[str, Any]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadFields:
    """What becomes of the fields that the module of an API does not read, which are its body's extra ones.

    `indifferent` ones say nothing about the answer, nor do those `within` messages and the like; `impossible`
    ones are refused, and why.
    """

    indifferent: frozenset[str] = frozenset()
    impossible: Mapping[str, str] = field(default_factory=dict)
    within: frozenset[str] = frozenset()

    def read(
        self, body: BaseModel, translated: Mapping[str, Any] = {}, parts: Mapping[str, object] = {}
    ) -> Fields:
        """The fields of a body. Those that its API's module has `translated` come first; in its `parts`, that
        module has read all that it knows. Raises BadRequest.
        """
        passed, unknown = {}, []
        for name, value in _meaning(body.model_extra or {}):
            if why := self.impossible.get(name) or _IMPOSSIBLE.get(name):
                if value:
                    raise BadRequest(f"`{name}` is not supported: {why}", name)
            elif name in _WRITTEN:
                unknown.append(name)
            elif name not in self.indifferent:
                passed[name] = value
        passed |= _meaning(translated)
        options = passed.pop("options", None)
        if options := _of_answer(options) if isinstance(options, dict) else options:
            passed["options"] = options
        if "tools" not in passed:
            for name in _OF_TOOLS:
                passed.pop(name, None)
        unknown += [name for name in passed if name not in _KNOWN]
        unknown += self._unknown_options(options)
        for name, part in parts.items():
            _find_unknown(part, self.within, f"{name}.", unknown)
        return Fields(passed, tuple(dict.fromkeys(unknown)))

    def _unknown_options(self, options: object) -> Iterator[str]:
        """Raises BadRequest where one of them asks for what is impossible."""
        named = options.keys() if isinstance(options, dict) else set[str]()
        for name in named - _ANSWER_OPTIONS:
            if why := self.impossible.get(name) or _IMPOSSIBLE.get(name):
                raise BadRequest(f"`options.{name}` is not supported: {why}", f"options.{name}")
            yield f"options.{name}"


def _meaning(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields on which the answer may depend."""
    for name, value in fields.items():
        if name not in _INDIFFERENT and value is not None and value not in _DEFAULTS.get(name, ()):
            yield name, value


def _of_answer(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options on which the answer may depend."""
    return {
        name: value for name, value in options.items() if value is not None and name not in _SERVER_OPTIONS
    }


#: what holds no objects that are read; a dict is a client's own JSON
_PLAIN = frozenset({str, int, float, bool, dict, type(None)})


def _find_unknown(value: object, indifferent: frozenset[str], path: str, found: list[str]) -> None:
    """Adds the paths of the fields of objects within it that nothing reads. It runs for each hit, so that
    most values are left out by their type: `isinstance` takes long for pydantic's models.
    """
    if type(value) in _PLAIN:
        return
    if isinstance(value, list):
        for one in value:
            _find_unknown(one, indifferent, path, found)
    elif isinstance(value, BaseModel):
        for name, extra in (value.model_extra or {}).items():
            if name not in indifferent and extra is not None:
                found.append(f"{path}{name}")
        for name, one in vars(value).items():
            if type(one) not in _PLAIN:
                _find_unknown(one, indifferent, f"{path}{name}.", found)


#: what its messages hold besides reaches the engine with them
OPENAI = UnreadFields()
COMPLETIONS = UnreadFields(impossible={"tools": "/v1/chat/completions has them"})

RESPONSES = UnreadFields(
    # What does not fit into the context is refused, whatever they say; only functions are tools here.
    indifferent=frozenset({"truncation", "context_management", "max_tool_calls", "client_metadata"}),
    impossible=dict.fromkeys(
        ("previous_response_id", "conversation", "prompt", "background", "background_options"),
        "nothing is stored here",
    ),
    within=frozenset(
        {"id", "status", "phase", "annotations", "logprobs", "prompt_cache_breakpoint", "caller", "async"}
        | {"name", "namespace"}  # of a tool's output, which its call has
        | {"context", "generate_summary"}  # of thoughts, which are not sent back
    ),
)

ANTHROPIC = UnreadFields(
    indifferent=frozenset(
        {"cache_control", "context_management", "speed", "inference_geo", "diagnostics", "fallbacks"}
        | {"fallback_credit_token", "billing_policy", "user_profile_id", "workspace_id"}
        | {"betas", "anthropic_beta", "anthropic_version"}  # headers, which some send in the body
    ),
    impossible={
        "mcp_servers": "no engine calls tools itself",
        "container": "no engine runs programs",
        "compaction": "no engine shortens a conversation",
        "logprobs": "/v1/chat/completions has them",
        "top_logprobs": "/v1/chat/completions has them",
    },
    within=frozenset(
        {"cache_control", "citations", "budget_tokens", "caller", "toolset_name"}
        | {"allowed_callers", "defer_loading", "eager_input_streaming"}  # of tools
    ),
)

_OF_CALLS = frozenset({"type", "index", "description"})
OLLAMA = UnreadFields(within=_OF_CALLS)
GENERATED = UnreadFields(
    impossible=dict.fromkeys(("template", "context"), "send the conversation to /api/chat"),
    within=_OF_CALLS,
)
