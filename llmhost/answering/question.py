"""A question and its answer, as everything above the cache and the engines sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from llmhost.answering.admission import (
    EXACT_ONLY,
    PLAIN,
    Admitted,
    Kind,
    admit,
    brings_own_data,
    find_denied,
    writing_tool,
)
from llmhost.cache.keys import CacheKey, cache_key, scope_id
from llmhost.cache.models import Answer, SemanticLookup
from llmhost.engines.engine import ChatRequest, Completion, Message, Sampling, Thought, ToolCall
from llmhost.errors import PromptTooLong, UsageError

if TYPE_CHECKING:
    from llmhost.config.models import CacheConfig, Config, EngineConfig

__all__ = [
    "CACHEABLE_FIELDS",
    "Event",
    "Latency",
    "Question",
    "QuestionOptions",
    "Reply",
    "Source",
    "Started",
    "Text",
    "look_again",
    "make_completion",
    "make_question",
    "standing_alone",
]

Source = Literal["exact", "semantic", "engine"]

#: fields of a request that shape the answer's text and nothing else, so that the answer may be cached with
#: them in its scope; any other one (`tools`, `n`, `logprobs`, …) bypasses the cache
CACHEABLE_FIELDS = frozenset(
    {"format", "response_format", "think", "reasoning_effort", "options", "top_k", "min_p", "typical_p"}
    | {"repeat_penalty", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias"}
)
#: bytes of a token, at least and on average, of what models are asked: so estimated, a conversation fits
_BYTES_A_TOKEN = 3
#: fields that say nothing about the answer: they separate none
_INDIFFERENT_FIELDS = frozenset({"keep_alive", "user"})
#: how tokens are drawn. How many may be is no part of it: see `Question.allows`
_SAMPLING = tuple(one.name for one in fields(Sampling) if one.name != "max_tokens")


@dataclass(frozen=True)
class Question:
    """What is asked, and of what kind of engine. `make_question` and `make_completion` make and check it.

    `prompt` is the text of the last message, `system` the plain system prompt before all others and
    `history` the messages between the two, oldest first. `last` is the last message as it was sent, where
    it is more than a user's plain text; `fields` are the fields of the request that are not read here. A
    `completion` is a text to continue, in place of all of these: it is no question, so the cache is bypassed.

    `use_cache` False neither reads nor stores; `refresh` asks an engine and stores its answer; `threshold`
    overrides the policy's for this question: a cosine similarity, or a probability with `verified`.

    `store` False keeps no answer to it, `max_age` in seconds is how old a cached one may be, and with
    `only_cached` no engine is asked. `sticky` names the conversation, whose questions go to one worker.
    `user` is one of the tenant, where users have caches of their own.

    `kind` says whether the answer keeps, `because` in which words that was seen. It is kept for `lifetime`
    seconds, None for the configured time. `exact_only`: it is served to the same text only, and the question
    is not embedded. `settled` False: neither a rule nor a person has said of what
    kind it is, so its vector may.

    `engine` is its kind, `context` in tokens what it is told to read, None where it is not told.
    """

    prompt: str
    model: str
    tenant: str
    system: str | None = None
    history: tuple[Message, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    use_cache: bool = True
    refresh: bool = False
    threshold: float | None = None
    last: Message | None = None
    completion: Completion | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""
    context: int | None = None
    fleet: str = ""
    kind: Kind = "plain"
    because: str = ""
    lifetime: float | None = None
    exact_only: bool = False
    settled: bool = True
    store: bool = True
    max_age: float | None = None
    only_cached: bool = False
    sticky: str = ""
    user: str = ""

    @property
    def bypasses(self) -> bool:
        """Whether the cache is not asked for an answer to it."""
        return not self.use_cache or self.refresh or self.key() is None

    @property
    def conversation(self) -> str:
        """Names the conversation that it goes on, whose worker has the context in memory: by the session that
        the client names, else by its beginning up to the first turn; empty for a question that stands alone.
        """
        begin = [message.role for message in self.history].index("user") + 1 if self._goes_on else 0
        if not (self.sticky or begin):
            return ""
        first = [] if self.sticky else [self.system, *map(_turn, self.history[:begin])]
        text = json.dumps([self.tenant, self.sticky, first], default=str)
        return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()

    @property
    def _goes_on(self) -> bool:
        return any(message.role == "user" for message in self.history)

    def allows(self, answer: Answer) -> bool:
        """Whether a stored answer is as short as is asked for: it ended by itself, and so it would have with
        this limit. Tokens that an engine did not count are no more than bytes; what no worker gave is the
        operator's, and may be as long as it is.
        """
        most = self.sampling.max_tokens
        if most is None or not (answer.completion_tokens or answer.worker):
            return True
        return (answer.completion_tokens or _size(answer.text)) <= most

    def request(self) -> ChatRequest:
        """What an engine is sent: every message and field as the client sent it."""
        if self.completion is not None:
            return ChatRequest(self.model, (), self.sampling, self.fields, self.completion)
        system = (Message("system", self.system),) if self.system else ()
        last = self.last or Message("user", self.prompt)
        return ChatRequest(self.model, (*system, *self.history, last), self.sampling, self.fields)

    def key(self, digest: str = "") -> CacheKey | None:
        """The question's place in the cache among the answers of the weights with this digest; None where
        something was sent that the cache does not understand, so that it must be bypassed.

        Everything besides the wording that the answer depends on is in the scope, and this is the one place
        that says what that is. Weights without a digest are those of this fleet: another one may serve others
        under the same name.
        """
        if digest not in self._keys:
            self._keys[digest] = self._key(digest)
        return self._keys[digest]

    @cached_property
    def _keys(self) -> dict[str, CacheKey | None]:
        """The keys that were asked for, by the weights' digest."""
        return {}

    def _key(self, digest: str) -> CacheKey | None:
        fields = {name: value for name, value in self.fields.items() if name not in _INDIFFERENT_FIELDS}
        if self.last is not None or self.completion is not None or not fields.keys() <= CACHEABLE_FIELDS:
            return None
        parts = {
            "tenant": self.tenant,
            "model": self.model,
            "system": self.system,
            "history": [_turn(message) for message in self.history],
            "sampling": {name: getattr(self.sampling, name) for name in _SAMPLING},
            "fields": fields,
            "engine": self.engine,
            "context": self.context,
            "weights": {"digest": digest} if digest else {"fleet": self.fleet},
            **({"user": self.user} if self.user else {}),
        }
        try:
            return cache_key(scope_id(parts), self.prompt)
        except (ValueError, TypeError):  # no JSON: a number that is none, for example
            return None


def _turn(message: Message) -> list[object]:
    return [message.role, message.content, *([message.fields] if message.fields else [])]


class QuestionOptions(TypedDict, total=False):
    """What a request may say of its question besides; see `Question`."""

    store: bool
    max_age: float | None
    only_cached: bool
    sticky: str
    user: str


def make_question(
    config: Config,
    messages: Sequence[Message],
    *,
    model: str | None = None,
    system: str | None = None,
    sampling: Sampling | None = None,
    fields: Mapping[str, Any] | None = None,
    use_cache: bool | None = None,
    refresh: bool = False,
    threshold: float | None = None,
    tenant: str | None = None,
    forgets: bool = False,
    **options: Unpack[QuestionOptions],
) -> Question:
    """The question that a request asks; what it leaves open, the configuration says.
    `use_cache` None: it is used where an answer to such a question may be kept, or `refresh` asks for it.

    `messages` are the client's, oldest first. `system` takes the place of the configured system prompt, and
    an empty one is none; neither is added where the client sent a system prompt of its own. What `sampling`
    leaves open is the configuration's, too. `forgets`: the oldest turns of a conversation that has become too
    long are left out. `options` are those of `Question`.

    Raises UsageError where the question is empty, or too long with its messages, or its model is not served.
    """
    engine = config.requests
    _check_served(config, model or engine.model)
    system, earlier, last = _parts_of(messages, engine.system if system is None else system)
    plain, text = last.role == "user" and _is_plain(last), _text(last)
    if plain and not text.strip():
        raise UsageError("the question is empty", hint='ask like this: llmhost ask "What is Redis?"')
    earlier = _checked_turns(config, earlier, (system or "") + text, forgets=forgets)
    sampling = _filled(sampling or Sampling(), engine)
    sent = (Message("system", system or ""), *earlier, last)
    admitted = _admitted(config, sent, sampling, fields or {})
    lifetime = config.cache.lifetime(admitted.kind)
    return Question(
        prompt=text if plain else "",
        model=model or engine.model,
        tenant=tenant or config.cache.tenant,
        system=system or None,
        history=tuple(earlier),
        sampling=sampling,
        use_cache=refresh or lifetime != 0 if use_cache is None else use_cache,
        refresh=refresh,
        threshold=threshold,
        last=None if plain else last,
        fields=dict(fields or {}),
        engine=engine.kind,
        context=None if engine.kind == "openai" else engine.context,
        fleet=config.fleet.name,
        settled=use_cache is not None or refresh or bool(earlier) or not _may_look_again(config, admitted),
        **_keeping(admitted, lifetime),
        **options,
    )


def _parts_of(messages: Sequence[Message], system: str | None) -> tuple[str | None, list[Message], Message]:
    """The plain system prompt, which is `system` where the client sent none, the turns after it, and the last
    message."""
    *earlier, last = messages or (Message("user", ""),)
    if earlier and earlier[0].role == "system" and _is_plain(earlier[0]):
        return _text(earlier[0]), earlier[1:], last
    if any(message.role in ("system", "developer") for message in messages):
        system = None
    return system, earlier, last


class _Keeping(TypedDict):
    """What a question's kind means for its answer; see `Question`."""

    kind: Kind
    because: str
    lifetime: float | None
    exact_only: bool


def _keeping(admitted: Admitted, lifetime: float | None) -> _Keeping:
    """`lifetime` 0: the answer is not kept, unless that is asked for."""
    return {
        "kind": admitted.kind,
        "because": admitted.because,
        "lifetime": lifetime or None,
        "exact_only": admitted.kind in EXACT_ONLY,
    }


def _admitted(
    config: Config, messages: Sequence[Message], sampling: Sampling, fields: Mapping[str, Any]
) -> Admitted:
    """Of what kind a question is, by all messages that are sent. What is to be another each time is a plain
    question at a temperature of 0, where it is not."""
    cache = config.cache
    if cache.admission == "all":
        return PLAIN
    if found := find_denied([_as_written(message) for message in messages], cache.deny):
        return Admitted("denied", found)
    if tool := writing_tool(fields.get("tools")):
        return Admitted("acting", f"the tool {tool}")
    *earlier, last = messages
    admitted = _admitted_turn(last, cache.allow)
    if admitted.kind == "creative" and sampling.temperature == 0:
        admitted = PLAIN
    turns = (admitted, *(_admitted_turn(turn, cache.allow) for turn in earlier))
    return next((turn for turn in turns if turn.kind in ("personal", "random")), admitted)


def _admitted_turn(turn: Message, allow: tuple[str, ...]) -> Admitted:
    """Of what kind a message is. What no user asks is personal where it brings own data, which the operator's
    own texts do not."""
    if turn.role == "user" and _is_plain(turn):
        return admit(_text(turn), allow)
    found = "" if turn.role in ("system", "developer") else brings_own_data(_as_written(turn))
    return Admitted("personal", found) if found else PLAIN


def _may_look_again(config: Config, admitted: Admitted) -> bool:
    """Whether no rule, and no pattern of the operator's, has said of what kind a question is."""
    return config.cache.admission == "careful" and admitted == PLAIN


def look_again(config: CacheConfig, question: Question, admitted: Admitted) -> Question:
    """The question, settled: of this kind, as its vector says."""
    lifetime = config.lifetime(admitted.kind)
    return replace(question, settled=True, use_cache=lifetime != 0, **_keeping(admitted, lifetime))


def make_completion(
    config: Config,
    completion: Completion,
    *,
    model: str,
    sampling: Sampling,
    fields: Mapping[str, Any],
    tenant: str | None = None,
    **options: Unpack[QuestionOptions],
) -> Question:
    """The request to continue a text, which goes around the cache; the rest is as in `make_question`."""
    engine = config.requests
    _check_served(config, model)
    _check_length([completion.prompt, completion.suffix], config.limits.max_prompt_chars)
    return Question(
        prompt="",
        model=model,
        tenant=tenant or config.cache.tenant,
        sampling=_filled(sampling, engine),
        use_cache=False,
        completion=completion,
        fields=dict(fields),
        engine=engine.kind,
        fleet=config.fleet.name,
        **options,
    )


def standing_alone(config: Config, question: Question, text: str) -> Question | None:
    """The question that the last turn of a conversation asks, where `text` says it without the turns before:
    in the same scope, but for them. None where an answer to it may not be served to others, or any turn is
    of another kind than plain."""
    turns = (*question.history, Message("user", question.prompt))
    if any(_admitted(config, (turn,), question.sampling, {}).kind != "plain" for turn in turns):
        return None
    standalone = make_question(
        config,
        [Message("user", text)],
        model=question.model,
        system=question.system or "",
        sampling=question.sampling,
        fields=question.fields,
        threshold=question.threshold,
        tenant=question.tenant,
        max_age=question.max_age,
        user=question.user,
    )
    return None if standalone.exact_only or not standalone.use_cache else standalone


def _checked_turns(config: Config, turns: list[Message], rest: str, *, forgets: bool) -> list[Message]:
    """The turns that are sent together with `rest`. Raises UsageError where they are too long."""
    if forgets:
        turns = _recent(config, turns, rest)
    _check_length([*map(_text, turns), rest], config.limits.max_prompt_chars)
    return turns


def _recent(config: Config, turns: Sequence[Message], rest: str) -> list[Message]:
    """The newest turns that can be sent and read together with `rest`, from a user's on."""
    engine = config.requests
    characters = config.limits.max_prompt_chars - len(rest)
    size = _size(rest)
    room = engine.context - min(engine.max_tokens or 0, engine.context // 2)
    begin = len(turns)
    for number in reversed(range(len(turns))):
        text = _text(turns[number])
        characters -= len(text)
        size += _size(text)
        if characters < 0 or (engine.kind != "openai" and size > room * _BYTES_A_TOKEN):
            break
        if turns[number].role == "user":
            begin = number
    return list(turns[begin:])


def _size(text: str) -> int:
    """Bytes."""
    return len(text.encode("utf-8", "replace"))


def _check_length(texts: Sequence[str], limit: int) -> None:
    """Raises UsageError where they have more than `limit` characters together."""
    if (length := sum(map(len, texts))) > limit:
        raise PromptTooLong(
            f"the prompt is too long: {length:,} characters; the limit is {limit:,}",
            hint="shorten it, or raise `limits.max_prompt_chars`",
        )


def _filled(sampling: Sampling, engine: EngineConfig) -> Sampling:
    """The request's sampling; what it leaves open, the configuration says."""
    return Sampling(
        temperature=engine.temperature if sampling.temperature is None else sampling.temperature,
        top_p=engine.top_p if sampling.top_p is None else sampling.top_p,
        seed=engine.seed if sampling.seed is None else sampling.seed,
        max_tokens=engine.max_tokens if sampling.max_tokens is None else sampling.max_tokens,
        stop=sampling.stop,
    )


def _check_served(config: Config, model: str) -> None:
    """A worker of this machine serves one file. Raises UsageError where another model is asked for."""
    if config.fleet.provider == "local" and model != config.engine.model:
        raise UsageError(
            f"this local fleet serves {config.engine.model}, not {model}",
            hint="give a GGUF file as `engine.model_path`, or use a running Ollama: `llmhost init --help`",
        )


def _is_plain(message: Message) -> bool:
    """Whether it is nothing but a text."""
    return isinstance(message.content, str) and not message.fields


def _text(message: Message) -> str:
    """Its text; of anything else the JSON text, by which its length is measured."""
    if isinstance(message.content, str) and not message.fields:
        return message.content
    return json.dumps([message.content, message.fields], ensure_ascii=False)


def _as_written(message: Message) -> str:
    """All that it says, each part on lines of its own: JSON would write a line break as two characters."""
    return "\n".join(_strings([message.content, message.fields]))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [value["text"]] if value.get("type") == "text" and "text" in value else [*value.values()]
    if isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)
    elif value is not None:
        yield str(value)


@dataclass(frozen=True, slots=True)
class Started:
    """The answer begins: comes once, before any text. `worker` None: it comes from the cache, and `reply` is
    all that there is to say of it already. `shadow` as in `Reply`. `usd_per_second` is what the worker's time
    costs. `found` as in `Reply`.
    """

    source: Source
    worker: str | None
    reply: Reply | None = None
    shadow: Reply | None = None
    usd_per_second: float = 0.0
    found: Question | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, in order; never empty. `logprobs` as an engine gives them, where asked for."""

    text: str
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; a step that was not taken is 0. `load` is the part of `total` that this process
    spends only once, on loading the embedding model and the verifier. `user` is how long the user waited: for
    a command from the start of its process, else `total`.
    """

    total: float
    load: float = 0.0
    condense: float = 0.0
    embed: float = 0.0
    lookup: float = 0.0
    verify: float = 0.0
    engine: float = 0.0
    user: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What there is to say once the answer is complete.

    `entry` names the cached entry that was served, or under which the answer was stored; None where it was
    not stored. `lookup` is what the semantic tier found, empty where it was not asked. Only an answer whose
    `finish_reason` is "stop" is complete, and cached. `digest` names the weights that an engine's answer is
    of: empty where they have no name, None where it was not told. `shadow` is the hit that was not served
    but compared with this answer. `stale`: the hit's answer has outlived its time, and another one is asked
    for. `condensed` is the question that stands alone which the last turn of a conversation was looked up as,
    empty where it was looked up with all turns before it. `found` is the question as its vector settled it,
    where it is of another kind than was known.
    """

    answer: Answer
    source: Source
    latency: Latency
    worker: str | None = None
    entry: str | None = None
    lookup: SemanticLookup = field(default_factory=SemanticLookup)
    digest: str | None = ""
    shadow: Reply | None = None
    stale: bool = False
    condensed: str = ""
    found: Question | None = None

    @property
    def confidence(self) -> float | None:
        """0..1, of a hit; None where the policy gives none."""
        return {"exact": 1.0, "semantic": self.lookup.confidence, "engine": None}[self.source]

    @property
    def cost_usd(self) -> float:
        """What the engine's time cost; nothing for a hit."""
        return self.answer.cost_usd if self.source == "engine" else 0.0

    @property
    def saved_usd(self) -> float:
        """What a hit's answer had cost to make."""
        return 0.0 if self.source == "engine" else self.answer.cost_usd


Event = Started | Text | Thought | ToolCall | Reply
