"""What people are told when a value is wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
import yaml

from llmhost.errors import ConfigError

Refused = Callable[..., ConfigError]

STATIC = "fleet:\n  provider: static\n  workers:\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fleet:\n  gpu: 2\n", "2: unknown key `fleet.gpu`; did you mean `fleet.gpus`?"),
        ("fleet:\n  maxGpus: 2\n", "2: unknown key `fleet.maxGpus`; did you mean `fleet.max_gpus`?"),
        ("cahce: {}\n", "1: unknown key `cahce`; did you mean `cache`?"),
        ("gpus: 2\n", "1: unknown key `gpus`; did you mean `fleet.gpus`?"),
        (
            "fleet:\n  budget:\n    per_hours: 2\n",
            "3: unknown key `fleet.budget.per_hours`; did you mean `fleet.budget.per_hour`?",
        ),
        ("fleet: {per_day: 2}\n", "1: unknown key `fleet.per_day`; did you mean `fleet.budget.per_day`?"),
        ("budget: {}\n", "1: unknown key `budget`; did you mean `fleet.budget`?"),
        ("fleet: {model: x}\n", "1: unknown key `fleet.model`; did you mean `engine.model`?"),
        ("fleet: {zzz: x}\n", "1: unknown key `fleet.zzz`"),
        (
            STATIC + "    - uri: http://h\n",
            (
                "4: unknown key `fleet.workers[0].uri`; did you mean `fleet.workers[0].url`?"
                "; also wrong: `fleet.workers[0].url`"
            ),
        ),
        ("'a\\nb\\e': 1\n", "1: unknown key `a\\nb\\e`"),
        ('"a\\nb\\e": 1\n', "1: unknown key `a\\nb\\x1b`"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    refused: Refused, text: str, message: str
) -> None:
    assert refused(text).message == f"llmhost.yaml:{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fleet:\n  gpus: lots\n", "2: `fleet.gpus` cannot be `lots`; allowed: whole number, 0 or more"),
        ("fleet: {gpus: true}\n", "1: `fleet.gpus` cannot be `true`; allowed: whole number, 0 or more"),
        ("fleet: {gpus: 1.5}\n", "1: `fleet.gpus` cannot be `1.5`; allowed: whole number, 0 or more"),
        ("fleet:\n  gpus:\n", "2: `fleet.gpus` cannot be empty; allowed: whole number, 0 or more"),
        ("fleet: {gpus: [1]}\n", "1: `fleet.gpus` cannot be a list; allowed: whole number, 0 or more"),
        ("redis: {port: 65536}\n", "1: `redis.port` cannot be `65536`; allowed: whole number, 1 to 65535"),
        ("redis: {host: {}}\n", "1: `redis.host` cannot be a mapping; allowed: text, 1 to 253 characters"),
        ("redis: {tls: maybe}\n", "1: `redis.tls` cannot be `maybe`; allowed: `true` or `false`"),
        ("engine: {top_p: 0}\n", "1: `engine.top_p` cannot be `0`; allowed: number over 0, at most 1"),
        ("engine: {top_p: .nan}\n", "1: `engine.top_p` cannot be `.nan`; allowed: number over 0, at most 1"),
        ("cache: {threshold: nan}\n", "1: `cache.threshold` cannot be `nan`; allowed: number, -1 to 1"),
        (
            "engine: {kind: vllm}\n",
            "1: `engine.kind` cannot be `vllm`; allowed: `llama_cpp`, `ollama` or `openai`",
        ),
        (
            "cache: {response_ttl: soon}\n",
            "1: `cache.response_ttl` cannot be `soon`; allowed: duration, `1ms` to `3650d`",
        ),
        (
            "cache: {response_ttl: 0s}\n",
            "1: `cache.response_ttl` cannot be `0s`; allowed: duration, `1ms` to `3650d`",
        ),
        (
            "cache: {embedding_ttl: inf}\n",
            "1: `cache.embedding_ttl` cannot be `inf`; allowed: duration, `1ms` to `3650d`",
        ),
        (
            "fleet:\n  budget:\n    per_hour: free\n",
            "3: `fleet.budget.per_hour` cannot be `free`; allowed: number over 0, at most 100000",
        ),
        ("fleet: {budget: 2}\n", "1: `fleet.budget` cannot be text; allowed: mapping of keys"),
        (
            "fleet: {orphan_after: 5s}\n",
            "1: `fleet.orphan_after` cannot be `5s`; allowed: duration, `1m` to `3650d`",
        ),
        (
            "engine: {keep_alive: long}\n",
            "1: `engine.keep_alive` cannot be `long`; allowed: duration, `1ms` to `3650d`",
        ),
        (
            "cache: {namespace: llmhost}\n",
            (
                "1: `cache.namespace` cannot be `llmhost`: `llmhost` is the prefix of the fleets' own keys;"
                " choose another namespace"
            ),
        ),
        ("fleet: local\n", "1: `fleet` cannot be text; allowed: mapping of keys"),
        (
            "fleet: {workers: x}\n",
            "1: `fleet.workers` cannot be text; allowed: list of mappings, at most 1000 entries",
        ),
        (STATIC + "    - token: x\n", "4: `fleet.workers[0].url` is missing"),
        (
            f"engine: {{model: '{'m ' * 200}'}}\n",
            (
                f"1: `engine.model` cannot be `{('m ' * 60)[:59]}…`"
                "; allowed: text without spaces, 1 to 200 characters"
            ),
        ),
        (
            "vast:\n  image: ollama/ollama latest\n",
            (
                "2: `vast.image` cannot be `ollama/ollama latest`"
                "; allowed: text without spaces, 1 to 1024 characters"
            ),
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_what_is_allowed(
    refused: Refused, text: str, message: str
) -> None:
    assert refused(text).message == f"llmhost.yaml:{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fleet: {provider: static}\n",
            ":1: provider `static` needs at least one entry under `fleet.workers`",
        ),
        ("fleet:\n  gpus: 9\n", ":2: `fleet.gpus` must not be over `fleet.max_gpus`"),
        (
            "cache:\n  tenant: a\n  response_ttl: 8d\n",
            ":3: `cache.embedding_ttl` must be at least `cache.response_ttl`",
        ),
        (
            "engine: {kind: ollama}\n",
            ": provider `local` runs engine `llama_cpp`; for a running Ollama use provider `static`",
        ),
        ("redis: {url: 'http://u:p@h'}\n", ":1: `redis.url` must start with redis://, rediss:// or unix://"),
        (
            "redis: {url: 'redis://h', host: h}\n",
            ":1: set either `redis.url` or `redis.host`, not both",
        ),
        (
            "vast:\n  disk: 60\n  interruptible: true\n",
            ":3: `vast.interruptible` needs a limit: set `vast.max_bid` or `vast.max_price`",
        ),
        ("fleet:\n  provider: vast\n", ": provider `vast` runs engine `ollama`: set `engine.kind: ollama`"),
        ("redis: {tls: true}\n", ":1: `redis.tls` needs `redis.host`, the host of your Redis"),
    ],
)
def test_keys_that_do_not_go_together_are_told_with_their_place(
    refused: Refused, text: str, message: str
) -> None:
    assert refused(text).message == f"llmhost.yaml{message}"


def test_a_rule_broken_by_the_environment_is_blamed_on_it(refused: Refused) -> None:
    error = refused("fleet: {max_gpus: 4}\n", {"LLMHOST_FLEET__GPUS": "5"})
    assert error.message == "LLMHOST_FLEET__GPUS: `fleet.gpus` must not be over `fleet.max_gpus`"


def test_two_problems_are_both_named(refused: Refused) -> None:
    error = refused("fleet: {gpus: -1}\nredis: {port: 0}\n")
    assert error.message.endswith("allowed: whole number, 0 or more; also wrong: `redis.port`")


def test_of_many_problems_some_are_named_and_the_rest_counted(refused: Refused) -> None:
    error = refused("fleet: {gpus: -1}\nlimits: {a: 1, b: 2, c: 3, d: 4}\ncache: {index: x, policy: y}\n")
    assert error.message.startswith("llmhost.yaml:2: unknown key `limits.a`")
    assert error.message.endswith("; also wrong: `limits.b`, `limits.c`, `limits.d` and 3 more")


def test_a_wrong_variable_is_shown_as_it_is_written_not_as_what_it_holds(refused: Refused) -> None:
    error = refused("redis:\n  port: ${REDIS_PASSWORD}\n", {"REDIS_PASSWORD": "hunter2"})
    assert error.message == (
        "llmhost.yaml:2: `redis.port` cannot be the value of `${REDIS_PASSWORD}`"
        "; allowed: whole number, 1 to 65535"
    )


def test_a_forgotten_space_after_a_colon_is_hinted_at(refused: Refused) -> None:
    error = refused("redis:\n  port:6380\n")
    assert error.hint == "write each key on a line below it, indented, with a space after the colon"


@pytest.mark.parametrize(
    "written",
    [
        *("password:hunter2", "password: *hunter2", "password: !hunter2", "password: !hunter2!x y"),
        *("password: &hunter2", "password: @hunter2", "password: `hunter2", "password: %hunter2"),
        *("password: [hunter2]", "password: {hunter2: x}", "password: hunter2: x", "password: |hunter2"),
        *('password: "hunter2', "password: 'hunter2", "password: {hunter2", "password: hunter2\n\tx"),
        *("password: ${hunter2", "password: hunter2${", "password: hunter2\x07", "url: hunter2"),
        *("url: redis://u:hunter2@h\n  host: h", "url: http://u:hunter2@h", "password: hunter2"),
        *("password: hunter2\n  password: hunter2", "password: hunter2\n  host: ''"),
    ],
)
@pytest.mark.parametrize("parser", ["CSafeLoader", "SafeLoader"])
def test_a_secret_is_in_no_message_and_no_traceback(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, parser: str, written: str
) -> None:
    monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, parser))
    error = refused(f"redis:\n  {written}\n")
    told = [error.message, error.hint or "", *traceback.format_exception(error)]
    assert "hunter2" not in "".join(told)


def test_credentials_in_an_address_are_not_shown(refused: Refused) -> None:
    error = refused(STATIC + "    - url: http://me:hunter2@host/\n")
    assert "cannot be `http://***@host/`; allowed: `http://` or `https://` address" in error.message


def test_text_that_is_not_unicode_is_refused(refused: Refused) -> None:
    error = refused("", {"LLMHOST_FLEET__NAME": "caf\udce9"})
    assert error.message.startswith("LLMHOST_FLEET__NAME: `fleet.name` cannot be `caf\\udce9`")
