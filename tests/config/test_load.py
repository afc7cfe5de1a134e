"""Where the configuration comes from, which source wins, renamed keys, and the messages of errors."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from plugins.cli import Ran

from llmhost.config.load import LoadedConfig, load_config
from llmhost.config.models import RENAMED, Config
from llmhost.config.schema import is_known
from llmhost.errors import ConfigError

Load = Callable[..., Config]
Refused = Callable[..., ConfigError]


def write(path: Path, gpus: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"fleet: {{gpus: {gpus}}}\n")
    return path


def test_without_a_file_the_built_in_local_fleet_is_used() -> None:
    loaded = load_config(environ={})
    assert (loaded.config, loaded.source) == (Config(), None)


def test_each_file_is_found_before_the_next(tmp_path: Path) -> None:
    at_home = write(Path("config/llmhost/llmhost.yaml").absolute(), 2)
    assert load_config(environ={}).source == at_home
    write(Path("llmhost.yaml"), 3)
    assert load_config(environ={}).source == Path("llmhost.yaml")
    named = write(tmp_path / "named.yaml", 4)
    assert load_config(environ={"LLMHOST_CONFIG": str(named)}).source == named
    given_path = write(tmp_path / "given.yaml", 5)
    loaded = load_config(given_path, environ={"LLMHOST_CONFIG": str(named)})
    assert (loaded.source, loaded.config.fleet.gpus) == (given_path, 5)


def test_an_empty_llmhost_config_names_no_file() -> None:
    assert load_config(environ={"LLMHOST_CONFIG": ""}).source is None


@pytest.mark.parametrize("environ", [{}, {"LLMHOST_CONFIG": "other.yaml"}])
def test_a_named_file_must_exist(environ: dict[str, str]) -> None:
    path = None if environ else Path("other.yaml")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=environ)
    assert caught.value.message == "cannot read the configuration other.yaml: No such file or directory"


def test_a_link_to_nowhere_is_not_passed_over() -> None:
    Path("llmhost.yaml").symlink_to("gone.yaml")
    with pytest.raises(ConfigError, match="No such file or directory"):
        load_config(environ={})


NOT_SERVED = (
    "llmhost.yaml:2: `engine.model` is llama3.2:3b, but this local fleet serves the packaged smollm2:135m: "
    "give a GGUF file as `engine.model_path`, or use a running Ollama (`llmhost init --provider static "
    "--engine ollama --url http://127.0.0.1:11434 --model llama3.2:3b`)"
)


def test_a_local_fleet_does_not_pass_the_packaged_model_off_as_another(load: Load, refused: Refused) -> None:
    text = "engine:\n  model: llama3.2:3b\n"
    assert refused(text).message == NOT_SERVED
    assert load(f"{text}  model_path: /srv/llama.gguf\n").engine.model == "llama3.2:3b"


def test_a_command_that_only_looks_warns_of_a_model_that_is_not_served() -> None:
    loaded = lenient("engine:\n  model: llama3.2:3b\n")
    assert (loaded.warnings, loaded.config.engine.model) == ((NOT_SERVED,), "llama3.2:3b")


@pytest.mark.parametrize("name", ["smollm2:135m", "SmolLM2-135M-Instruct"])
def test_the_packaged_model_is_served_under_its_own_names(load: Load, name: str) -> None:
    assert load(f"engine: {{model: {name}}}\n").engine.model == name


def test_the_packaged_model_is_held_to_a_short_answer(load: Load) -> None:
    asked = load("").requests
    assert (asked.max_tokens, asked.temperature, asked.seed) == (200, 0.5, 1)
    assert asked.system == "Answer in one short sentence."


def test_what_the_user_sets_wins_over_the_packaged_models_defaults(load: Load) -> None:
    asked = load('engine: {max_tokens: 5, temperature: 0, system: ""}\n').requests
    assert (asked.max_tokens, asked.temperature, asked.seed, asked.system) == (5, 0.0, 1, "")


def test_another_model_is_asked_as_it_is(load: Load) -> None:
    asked = load("engine: {model_path: /srv/llama.gguf}\n").requests
    assert (asked.max_tokens, asked.temperature, asked.seed, asked.system) == (1024, None, None, None)


def test_file_environment_and_flag_win_in_this_order(load: Load) -> None:
    text = "fleet: {gpus: 2, max_gpus: 7, first_port: 9000}\n"
    environ = {"LLMHOST_FLEET__GPUS": "3", "LLMHOST_FLEET__MAX_GPUS": "6"}
    fleet = load(text, environ, {"fleet.gpus": 4}).fleet
    assert (fleet.name, fleet.first_port, fleet.max_gpus, fleet.gpus) == ("local", 9000, 6, 4)


def test_a_key_of_a_section_in_a_section_is_set_in_the_same_ways(load: Load) -> None:
    text = "fleet:\n  gpus: 2\n  budget: {per_hour: 1, per_day: 10, per_month: 100}\n"
    environ = {"LLMHOST_FLEET__BUDGET__PER_DAY": "20", "LLMHOST_FLEET__BUDGET__PER_MONTH": "200"}
    fleet = load(text, environ, {"fleet.budget.per_month": 300}).fleet
    budget = fleet.budget
    assert (fleet.gpus, budget.per_hour, budget.per_day, budget.per_month) == (2, 1.0, 20.0, 300.0)


@pytest.mark.parametrize("text", ["", "fleet:\n", "fleet:\n  budget:\n", "fleet:\n  budget: {}\n"])
def test_a_section_in_a_section_may_be_empty_or_missing(load: Load, text: str) -> None:
    assert load(text) == Config()
    assert load(text, {"LLMHOST_FLEET__BUDGET__PER_HOUR": "2"}).fleet.budget.per_hour == 2


def test_an_environment_variable_can_unset_what_the_file_sets(load: Load) -> None:
    environ = {"LLMHOST_REDIS__HOST": "null", "LLMHOST_REDIS__URL": "redis://elsewhere"}
    assert load("redis: {host: here}\n", environ).redis.host is None


@given(value=st.text())
def test_an_environment_variable_gives_its_text_and_nothing_else(load: Load, value: str) -> None:
    config = load("", {"LLMHOST_ENGINE__SYSTEM": value})
    unset = value.strip() in {"", "~", "null", "Null", "NULL"}
    assert config == Config.model_validate({"engine": {"system": None if unset else value.rstrip("\r\n")}})


@pytest.mark.parametrize(
    "name", ["LLMHOST_STATE_DIR", "LLMHOST_CACHE_DIR", "LLMHOST_TEST_REDIS_URL", "REDIS__X"]
)
def test_other_variables_are_left_alone(load: Load, name: str) -> None:
    assert load("", {name: "x"}) == Config()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LLMHOST_FLEET__GPU", "sets no known key; did you mean LLMHOST_FLEET__GPUS?"),
        ("LLMHOST_FLET__GPUS", "sets no known key; did you mean LLMHOST_FLEET__GPUS?"),
        (
            "LLMHOST_FLEET__BUDGET__PER_DAYS",
            "sets no known key; did you mean LLMHOST_FLEET__BUDGET__PER_DAY?",
        ),
        ("LLMHOST_FLEET__PER_DAY", "sets no known key; did you mean LLMHOST_FLEET__BUDGET__PER_DAY?"),
        ("LLMHOST_FLEET__BUDGET_PER_HOUR", "sets nothing; did you mean LLMHOST_FLEET__BUDGET__PER_HOUR?"),
        ("LLMHOST_FLEET__BUDGET", "sets no known key; did you mean LLMHOST_FLEET__BUDGET__PER_HOUR?"),
        ("LLMHOST_XXX__QQQ", "sets no known key"),
        ("LLMHOST_FLEET__WORKERS__0__URL", "sets no known key"),
    ],
)
def test_a_mistyped_variable_is_an_error(refused: Refused, name: str, message: str) -> None:
    assert refused("", {name: "1"}).message == f"the environment variable {name} {message}"


def test_a_mistyped_flag_key_is_an_error(refused: Refused) -> None:
    error = refused("", {}, {"fleet.gpu": 1})
    assert error.message == "unknown key `fleet.gpu`; did you mean `fleet.gpus`?"


@pytest.mark.parametrize(
    ("environ", "overrides", "place"),
    [({"LLMHOST_FLEET__GPUS": "-2"}, {}, "LLMHOST_FLEET__GPUS"), ({}, {"fleet.gpus": -2}, "command line")],
)
def test_a_wrong_value_is_blamed_on_where_it_was_set(
    refused: Refused, environ: dict[str, str], overrides: dict[str, object], place: str
) -> None:
    error = refused("fleet: {gpus: 1}\n", environ, overrides)
    assert error.message == f"{place}: `fleet.gpus` cannot be `-2`; allowed: whole number, 0 or more"


def test_importing_the_loader_brings_pydantic_and_yaml_but_nothing_heavier() -> None:
    heavy = ["redis", "httpx", "numpy", "typer", "rich", "psutil", "platformdirs", "onnxruntime", "torch"]
    code = f"import sys, llmhost.config.load; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_redis_url_may_leave_the_password_to_its_own_key(load: Load) -> None:
    redis = load("redis: {url: 'rediss://h', password: '${P}'}\n", {"P": "hunter2"}).redis
    assert redis.password is not None
    assert "hunter2" not in repr(redis)
    assert redis.password.get_secret_value() == "hunter2"


VALUES = {
    "scale.late": ("0.2", 0.2),
    "scale.busy_above": ("0.95", 0.95),
    "scale.busy_below": ("0.6", 0.6),
    "scale.catch_up": ("40s", 40.0),
    "scale.wedged_after": ("20m", 1200.0),
    "scale.idle_after": ("15m", 900.0),
    "engine.parallel": ("3", 3),
}


def variable(key: str) -> str:
    return "LLMHOST_" + key.replace(".", "__").upper()


def loaded_from(text: str, environ: Mapping[str, str], key: str) -> tuple[LoadedConfig, object]:
    """What was loaded, and the value of this key in it."""
    Path("llmhost.yaml").write_text(text)
    loaded = load_config(environ=environ)
    section, name = key.split(".")
    return loaded, getattr(getattr(loaded.config, section), name)


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_sets_the_new_key_and_warns(old: str) -> None:
    new, (text, value) = RENAMED[old], VALUES[old]
    section, name = old.split(".")
    loaded, found = loaded_from(f"{section}:\n  {name}: {text}\n", {}, new)
    assert found == value
    assert loaded.warnings == (f"llmhost.yaml:2: `{old}` is now `{new}`; the old name will stop working",)
    loaded, found = loaded_from("", {variable(old): text}, new)
    assert found == value
    renamed = f"the environment variable {variable(old)} is now {variable(new)}"
    assert loaded.warnings == (f"{renamed}; the old name will stop working",)


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("scale: {max_late_ratio: 0.1}", {"LLMHOST_SCALE__LATE": "0.2"}),
        ("scale: {late: 0.1}", {"LLMHOST_SCALE__MAX_LATE_RATIO": "0.2"}),
    ],
    ids=["old name", "new name"],
)
def test_the_environment_wins_under_either_name(text: str, environ: dict[str, str]) -> None:
    assert loaded_from(text, environ, "scale.max_late_ratio")[1] == 0.2


def test_every_new_name_is_a_key_and_no_old_name_is() -> None:
    assert all(is_known(new) for new in RENAMED.values())
    assert not any(is_known(old) for old in RENAMED)


def test_both_names_in_one_place_are_an_error(refused: Refused) -> None:
    error = refused("scale:\n  max_late_ratio: 0.1\n  late: 0.2\n")
    old_name = "`scale.late` is the old name of `scale.max_late_ratio`"
    assert error.message == f"llmhost.yaml:3: {old_name}, which is set too"
    assert error.hint == "remove `late`"
    error = refused("", {"LLMHOST_ENGINE__PARALLEL": "2", "LLMHOST_ENGINE__SLOTS": "2"})
    old_name = "LLMHOST_ENGINE__PARALLEL is the old name of LLMHOST_ENGINE__SLOTS"
    assert error.message == f"{old_name}, which is set too"


def test_a_wrong_value_under_an_old_name_is_found_on_its_line(refused: Refused) -> None:
    error = refused("engine:\n  parallel: 0\n")
    assert error.message.startswith("llmhost.yaml:2: `engine.slots` cannot be `0`")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("LLMHOST_REDIS_PORT", "LLMHOST_REDIS__PORT"), ("LLMHOST_SCALE_LATE", "LLMHOST_SCALE__MAX_LATE_RATIO")],
    ids=["as Kubernetes sets it", "an old name"],
)
def test_a_variable_with_one_underscore_sets_nothing_and_is_named(name: str, meant: str) -> None:
    loaded = load_config(environ={name: "tcp://10.0.0.1:6379"})
    assert loaded.config == Config()
    assert loaded.warnings == (f"the environment variable {name} sets nothing; did you mean {meant}?",)


def test_a_command_warns_on_stderr_once(cli: Callable[..., Ran], refusing_port: int) -> None:
    fleet = "fleet: {provider: static, workers: [{url: 'http://127.0.0.1:9'}]}"
    redis = f"redis: {{host: 127.0.0.1, port: {refusing_port}}}"  # no embedded server is left behind
    Path("llmhost.yaml").write_text(f"{fleet}\nengine: {{kind: openai, parallel: 2}}\n{redis}\n")
    ran = cli("status", "--json")
    warning = "llmhost.yaml:2: `engine.parallel` is now `engine.slots`; the old name will stop working"
    assert ran.stderr.count(warning) == 1
    assert "engine.slots" not in ran.stdout


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
                "; also llmhost.yaml:4: `fleet.workers[0].url` is missing"
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
        ("fleet:\n  gpus:\n", "2: `fleet.gpus` cannot be empty; allowed: whole number, 0 or more"),
        ("fleet: {gpus: [1]}\n", "1: `fleet.gpus` cannot be a list; allowed: whole number, 0 or more"),
        ("redis: {host: {}}\n", "1: `redis.host` cannot be a mapping; allowed: text, 1 to 253 characters"),
        ("redis: {tls: maybe}\n", "1: `redis.tls` cannot be `maybe`; allowed: `true` or `false`"),
        ("engine: {top_p: 0}\n", "1: `engine.top_p` cannot be `0`; allowed: number over 0, at most 1"),
        (
            "cache: {confidence: 1}\n",
            "1: `cache.confidence` cannot be `1`; allowed: number, 0.5 or more, below 1",
        ),
        ("cache: {threshold: nan}\n", "1: `cache.threshold` cannot be `nan`; allowed: number, -1 to 1"),
        (
            "cache:\n  deny: ['a.*b.*c']\n",
            (
                "2: `cache.deny`: the pattern 'a.*b.*c' might take long, as it can fit in too many ways; "
                "write {0,40} for * and +, and fewer of them"
            ),
        ),
        (
            f"cache:\n  allow: [{', '.join(['a.*b'] * 9)}]\n  deny: ['e.*f']\n",
            (
                "3: the 10 patterns of `cache.deny` and `cache.allow` might take long together: they can "
                "fit in 20,010 ways of at most 20,000, 'e.*f' alone in 2,001; "
                "write {0,40} for * and +, and fewer of them"
            ),
        ),
        (
            "engine: {kind: vllm}\n",
            "1: `engine.kind` cannot be `vllm`; allowed: `llama_cpp`, `ollama` or `openai`",
        ),
        (
            "cache: {response_ttl: soon}\n",
            "1: `cache.response_ttl` cannot be `soon`; allowed: duration, `1ms` to `3650d`",
        ),
        (
            "cache: {embedding_ttl: inf}\n",
            "1: `cache.embedding_ttl` cannot be `inf`; allowed: duration, `1ms` to `3650d`",
        ),
        (
            "fleet:\n  budget:\n    per_hour: free\n",
            "3: `fleet.budget.per_hour` cannot be `free`; allowed: number over 0, at most 100000",
        ),
        (
            "fleet: {orphan_after: 5s}\n",
            "1: `fleet.orphan_after` cannot be `5s`; allowed: duration, `1m` to `3650d`",
        ),
        (
            "cache: {namespace: llmhost}\n",
            (
                "1: `cache.namespace` cannot be `llmhost`: `llmhost` is the prefix of the fleets' own keys;"
                " choose another namespace"
            ),
        ),
        (
            "cache: {lifetimes: {plain: soon}}\n",
            (
                "1: `cache.lifetimes.plain` cannot be `soon`: a lifetime is `none`, `default`, or between "
                "`1ms` and `3650d`"
            ),
        ),
        (
            "gateway: {traces: 'http://host:port'}\n",
            "1: `gateway.traces` cannot be `http://host:port`: its host or its port is not valid",
        ),
        ("fleet: local\n", "1: `fleet` cannot be text; allowed: mapping of keys"),
        (
            "gateway: {aliases: 5}\n",
            "1: `gateway.aliases` cannot be `5`; allowed: mapping of at most 100 names to models",
        ),
        (
            "gateway: {aliases: {a: 'b c'}}\n",
            "1: `gateway.aliases`: 'b c' is no model's name, text without spaces, 1 to 200 characters",
        ),
        (
            "gateway: {aliases: {a: [b]}}\n",
            "1: `gateway.aliases.a` cannot be a list; allowed: mapping of at most 100 names to models",
        ),
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
        ("redis: {cert_file: x.pem}\n", ":1: `redis.cert_file` needs `redis.host`, the host of your Redis"),
        (
            "redis: {host: h, key_file: x.key}\n",
            ":1: `redis.key_file` needs `redis.cert_file`, the certificate of that key",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_told_with_their_place(
    refused: Refused, text: str, message: str
) -> None:
    assert refused(text).message == f"llmhost.yaml{message}"


def test_a_rule_broken_by_the_environment_is_blamed_on_it(refused: Refused) -> None:
    error = refused("fleet: {max_gpus: 4}\n", {"LLMHOST_FLEET__GPUS": "5"})
    assert error.message == "LLMHOST_FLEET__GPUS: `fleet.gpus` must not be over `fleet.max_gpus`"


def test_every_problem_is_explained_with_its_place(refused: Refused) -> None:
    error = refused("fleet:\n  gpus: -1\nlimits: {zz: 1}\ncache:\n  index: x\n  policy: y\n")
    first, *others = error.message.split("; also ")
    assert first == "llmhost.yaml:3: unknown key `limits.zz`"
    assert sorted(other.partition(";")[0] for other in others) == [
        "llmhost.yaml:2: `fleet.gpus` cannot be `-1`",
        "llmhost.yaml:5: `cache.index` cannot be `x`",
        "llmhost.yaml:6: `cache.policy` cannot be `y`",
    ]


def test_problems_of_every_kind_are_explained_at_once() -> None:
    Path("llmhost.yaml").write_text(
        "fleet:\n  gpus: two\n  provider: static\n  workers:\n    - url: ${NOT_SET}\n"
        "redis: {server: ./x.sh}\nscale:\n  max_late_ratio: 0.1\n  late: 0.2\n"
    )
    environ = {
        "LLMHOST_FLEET__GPU": "1",
        "LLMHOST_CAHCE__INDEX": "flat",
        "LLMHOST_ENGINE__SLOTS": "2",
        "LLMHOST_ENGINE__PARALLEL": "2",
    }
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ)
    assert [part.partition(", ")[0].partition(";")[0] for part in caught.value.message.split("; also ")] == [
        "llmhost.yaml:5: `fleet.workers[0].url`: the environment variable NOT_SET is not set",
        "llmhost.yaml:9: `scale.late` is the old name of `scale.max_late_ratio`",
        "llmhost.yaml:6: `redis.server` would start a program",
        "the environment variable LLMHOST_FLEET__GPU sets no known key",
        "the environment variable LLMHOST_CAHCE__INDEX sets no known key",
        "LLMHOST_ENGINE__PARALLEL is the old name of LLMHOST_ENGINE__SLOTS",
        "llmhost.yaml:2: `fleet.gpus` cannot be `two`",
    ]
    assert caught.value.hint == "set it, or write ${NOT_SET:-default}"


def test_what_only_follows_from_a_variable_that_is_not_set_is_not_told(refused: Refused) -> None:
    text = "fleet: {provider: static, workers: '${NOT_SET}'}\nredis: {url: '${NEITHER}', port: 1}\n"
    problems = refused(text).message.split("; also ")
    assert [problem.rpartition(" variable ")[2] for problem in problems] == [
        "NOT_SET is not set",
        "NEITHER is not set",
    ]


def test_all_rules_that_are_broken_are_explained(refused: Refused) -> None:
    error = refused("fleet: {provider: vast, gpus: 9, max_gpus: 1}\n", {"LLMHOST_SCALE__MIN_GPUS": "3"})
    assert error.message.split("; also ") == [
        "llmhost.yaml: provider `vast` runs engine `ollama`: set `engine.kind: ollama`",
        "llmhost.yaml:1: `fleet.gpus` must not be over `fleet.max_gpus`",
        "llmhost.yaml:1: no `min_gpus` of `scale` may be over `fleet.max_gpus`",
    ]
    error = refused("redis: {port: 1, tls: true}\n")
    assert error.message.count("needs `redis.host`") == 2


def test_of_very_many_problems_the_rest_is_counted(refused: Refused) -> None:
    keys = ", ".join(f"zz{number}: 1" for number in range(30))
    assert refused(f"limits: {{{keys}}}\n").message.endswith("unknown key `limits.zz9`; and 20 more")


def test_every_variable_that_is_not_set_is_named(refused: Refused) -> None:
    error = refused("redis:\n  password: ${ONE}\n  username: ${TWO}\n")
    assert [part.rpartition(" variable ")[2] for part in error.message.split("; also ")] == [
        "ONE is not set",
        "TWO is not set",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_end_of_a_secret_that_was_read_from_a_file_is_dropped(load: Load, end: str) -> None:
    environ = {"SECRET": f"a%[b]{end}", "LLMHOST_REDIS__USERNAME": f"ops{end}"}
    config = load("redis: {host: h, password: '${SECRET}'}\n", environ)
    assert config.redis.password is not None
    assert (config.redis.password.get_secret_value(), config.redis.username) == ("a%[b]", "ops")


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


# For commands that stop, look or list


def lenient(text: str, environ: Mapping[str, str] = {}) -> LoadedConfig:
    Path("llmhost.yaml").write_text(text)
    return load_config(environ=environ, lenient=True)


@pytest.mark.parametrize(
    ("rest", "section"),
    [
        ("redis: {host: h, password: '${REDIS_PASSWORD}'}", "redis"),
        ("scale: {target_utilization_max: 0.1, target_utilization_min: 0.9}", "scale"),
        ("engine: {kind: nonsense}", "engine"),
        ("engine: [1]", "engine"),
        ("cahce: {enabled: true}", "cahce"),
        ("limits: {max_prompt: 1}", "limits"),
    ],
    ids=["a variable that is not set", "a rule of two keys", "a value", "no section", "a name", "a key"],
)
def test_what_is_invalid_is_left_out_with_a_warning_and_the_fleet_is_known(rest: str, section: str) -> None:
    loaded = lenient(f"fleet: {{name: blue, provider: vast, gpus: two}}\nvast: {{api_key: k}}\n{rest}\n")
    fleet, vast = loaded.config.fleet, loaded.config.vast
    assert (fleet.name, fleet.provider, fleet.gpus) == ("blue", "vast", Config().fleet.gpus)
    assert vast.api_key is not None
    assert loaded.dropped == {"fleet", section}
    assert [warning.endswith("; it is left out") for warning in loaded.warnings] == [True, True]


@pytest.mark.parametrize("rest", ["", ", workers: []", ", workers: [{url: 'https://host:99999'}]"])
def test_a_static_fleet_without_a_valid_server_is_known_where_it_only_stops_or_looks(rest: str) -> None:
    loaded = lenient(f"fleet: {{name: blue, provider: static{rest}}}\n")
    fleet = loaded.config.fleet
    assert (fleet.name, fleet.provider, list(fleet.workers)) == ("blue", "static", [])
    assert len(loaded.warnings) == 1


def test_both_names_of_a_key_do_not_stand_in_the_way_of_stopping() -> None:
    loaded = lenient(
        "fleet: {name: blue, provider: vast}\nengine: {kind: ollama, slots: 1, parallel: 2}\n",
        {"LLMHOST_SCALE__LATE": "0.1", "LLMHOST_SCALE__MAX_LATE_RATIO": "0.2"},
    )
    assert (loaded.config.engine.slots, loaded.config.scale.max_late_ratio) == (1, 0.2)
    assert len([warning for warning in loaded.warnings if "which is set too" in warning]) == 2


@pytest.mark.parametrize("fleet", ["{name: 'a b', provider: vast}", "{name: blue, provider: aws}", "blue"])
def test_without_knowing_which_fleet_is_meant_nothing_is_left_out(fleet: str) -> None:
    with pytest.raises(ConfigError, match="fleet"):
        lenient(f"fleet: {fleet}\n")


def test_the_name_of_fleets_whose_name_is_unknown_is_only_for_commands_that_stop_or_look(
    refused: Refused,
) -> None:
    assert str(refused("fleet:\n  name: unknown\n")) == (
        "llmhost.yaml:2: `fleet.name` cannot be `unknown`, which stands for fleets of unknown name"
    )
    assert refused("", overrides={"fleet.name": "unknown"}).message.startswith("command line: `fleet.name`")
    assert lenient("fleet: {name: unknown}\n").config.fleet.name == "unknown"


def test_a_variable_that_names_no_key_is_a_warning_where_it_only_stops_or_looks() -> None:
    assert lenient("", {"LLMHOST_FLEET__GPU": "1"}).warnings == (
        "the environment variable LLMHOST_FLEET__GPU sets no known key; did you mean LLMHOST_FLEET__GPUS?",
    )


# What a file may do that was not named, but lies in the current folder

FOUND = "and this file was not named but found in the current folder"


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("redis: {server: ./x.sh}", "redis.server", "start a program"),
        ("notify: {command: ./x.sh}", "notify.command", "start a program"),
        ("redis: {server: redis-server}", "redis.server", "start a program"),
        (
            "fleet: {provider: static, workers: [{url: 'http://h', token: '${VAST_API_KEY}'}]}",
            "fleet.workers[0].token",
            "send the account's key anywhere but to vast.ai",
        ),
        (
            "redis: {url: 'redis://:${VAST_API_KEY:-none}@h'}",
            "redis.url",
            "send the account's key anywhere but to vast.ai",
        ),
        (
            "redis: {host: h, password: '${LLMHOST_VAST__API_KEY}'}",
            "redis.password",
            "send the account's key anywhere but to vast.ai",
        ),
    ],
)
def test_a_file_that_was_found_starts_no_program_and_sends_the_account_s_key_nowhere(
    text: str, key: str, what: str
) -> None:
    environ = {"VAST_API_KEY": "k", "LLMHOST_VAST__API_KEY": "k"}
    Path("llmhost.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ)
    assert caught.value.message == f"llmhost.yaml:1: `{key}` would {what}, {FOUND}"
    assert (
        caught.value.hint == "if you trust the file, name it: `--config llmhost.yaml`, or set LLMHOST_CONFIG"
    )

    lenient = load_config(environ=environ, lenient=True)
    assert f"llmhost.yaml:1: `{key}` would {what}, {FOUND}; it is left out" in lenient.warnings
    assert (lenient.config.redis.server, lenient.config.redis.password) == (None, None)
    assert [worker.token for worker in lenient.config.fleet.workers] in ([], [None])

    for path, named in ((Path("llmhost.yaml"), {}), (None, {"LLMHOST_CONFIG": "llmhost.yaml"})):
        assert load_config(path, environ=environ | named).warnings == ()


def test_a_file_that_was_found_may_hold_the_account_s_key_for_vast_and_other_variables() -> None:
    Path("llmhost.yaml").write_text(
        "vast: {api_key: '${VAST_API_KEY}'}\nredis: {host: h, password: '$${VAST_API_KEY}${P}'}\n"
    )
    config = load_config(environ={"VAST_API_KEY": "k", "P": "p"}).config
    assert config.redis.password is not None
    assert config.redis.password.get_secret_value() == "${VAST_API_KEY}p"


def test_the_user_s_own_file_may_start_a_program() -> None:
    own = write(Path("config/llmhost/llmhost.yaml").absolute(), 1)
    own.write_text("redis: {server: redis-server}")
    assert load_config(environ={}).config.redis.server == "redis-server"


@pytest.mark.parametrize(
    ("section", "key", "written", "resolved"),
    [
        ("redis", "server", "./x", "{folder}/x"),
        ("redis", "server", "redis-server", "redis-server"),
        ("redis", "server", "/usr/bin/redis-server", "/usr/bin/redis-server"),
        ("redis", "server", "~/redis-server", "~/redis-server"),
        ("engine", "model_path", "./m.gguf", "{folder}/m.gguf"),
        ("engine", "model_path", "/m.gguf", "/m.gguf"),
        ("cache", "embedder", "./minilm", "{folder}/minilm"),
        ("cache", "embedder", "owner/minilm", "owner/minilm"),
        ("cache", "verifier", "../verifier", "{folder}/../verifier"),
    ],
)
def test_paths_in_a_file_are_relative_to_the_file(
    tmp_path: Path, section: str, key: str, written: str, resolved: str
) -> None:
    file = tmp_path / "elsewhere" / "my.yaml"
    file.parent.mkdir()
    file.write_text(f"{section}: {{{key}: '{written}'}}")
    loaded = getattr(getattr(load_config(file, environ={}).config, section), key)
    assert loaded == resolved.format(folder=file.parent)
