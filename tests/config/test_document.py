"""Reading a configuration file, and the variables in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.document import substitute
from llmhost.config.load import load_config
from llmhost.config.models import Config
from llmhost.errors import ConfigError

Load = Callable[..., Config]
Refused = Callable[..., ConfigError]

#: Pieces of YAML that make more trouble together than random text does.
_PIECES = st.sampled_from(
    [
        *"{}[]'\"#|>&*!%@`,?-:~\t\n\x00\u2028é1 ",
        *("fleet:", "\n  ", "gpus: ", "- ", "? ", ": ", "<<: ", "null", "---\n", "...\n"),
        *("${A}", "${A:-", "$${", "&a ", "*a", "!!python/object:os.system "),
    ]
)


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "~", "\ufeff", "fleet:\nredis:\n"])
def test_a_file_that_sets_nothing_gives_the_defaults(load: Load, text: str) -> None:
    assert load(text) == Config()


@pytest.mark.parametrize("text", ["- a\n- b\n", "hello", "42", "'fleet:'", "[]"])
def test_a_file_that_is_not_a_mapping_is_refused(refused: Refused, text: str) -> None:
    assert refused(text).message == "llmhost.yaml:1: not a mapping"


def test_a_tab_is_named_with_its_line(refused: Refused) -> None:
    assert refused("fleet:\n\tgpus: 1\n").message == "llmhost.yaml:2: a tab begins this line"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fleet: {}\nredis: {}\nfleet: {}\n", "llmhost.yaml:3: `fleet` is given twice"),
        ("fleet:\n  gpus: 1\n  'gpus': 2\n", "llmhost.yaml:3: `fleet.gpus` is given twice"),
    ],
)
def test_a_duplicate_key_is_named_with_its_line(refused: Refused, text: str, message: str) -> None:
    assert refused(text).message == message


@pytest.mark.parametrize(
    "text",
    [
        "fleet: &x {gpus: 1}\nredis: *x\n",
        "fleet: &x [*x]\n",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
        "fleet: !!python/object/apply:os.system ['true']\n",
        "fleet: {name: !!binary aGk=}\n",
        "&k fleet: {}\n",
        "redis: {password: !a!b c}\n",
    ],
)
def test_anchors_aliases_and_tags_are_refused(refused: Refused, text: str) -> None:
    error = refused(text)
    assert error.message == "llmhost.yaml:1: anchors (`&`), aliases (`*`) and tags (`!`) are not supported"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fleet: [1", "llmhost.yaml:2: not YAML: did not find expected ',' or ']'"),
        ("fleet: {}\nx\x07: 1\n", "llmhost.yaml:2: not text: it contains a control character"),
        ("a: 1\n---\nb: 2\n", "llmhost.yaml:2: a second document begins here"),
        ("? [a]\n: b\n", "llmhost.yaml:1: a key that is not text"),
        ("[" * 500_000, "llmhost.yaml:1: more than 10 levels inside one another"),
        ("a: 1\nb: " + "[" * 500_000, "llmhost.yaml:2: more than 10 levels inside one another"),
        ("a: '" + "[" * 99 + "'\nb: [", "llmhost.yaml:3: not YAML: did not find expected node content"),
        ("a: " + "[[]," * 100_000, "llmhost.yaml:1: more than 10 levels inside one another"),
        ("- a\n" * 200_000, "llmhost.yaml:19999: more than 20000 keys and values"),
    ],
)
def test_other_text_is_refused_with_its_line(refused: Refused, text: str, message: str) -> None:
    assert refused(text).message == message


def test_the_parser_without_libyaml_refuses_the_same(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert refused("fleet:\n\tgpus: 1\n").message == "llmhost.yaml:2: a tab begins this line"
    assert refused("a: 1\na: 2\n").message == "llmhost.yaml:2: `a` is given twice"
    assert refused("a: \x07\n").message == "llmhost.yaml:1: not text: it contains a control character"
    assert refused("[" * 500_000).message == "llmhost.yaml:1: more than 10 levels inside one another"


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(refused: Refused) -> None:
    assert refused(b"fleet:\n  name: caf\xe9\n").message == "llmhost.yaml:2: not UTF-8 text"


def test_ten_megabytes_are_refused_unparsed(refused: Refused) -> None:
    # Its first line is no YAML: parsed at all, the error would be another one.
    error = refused(b"[[[[}" + b"\n" * 10_000_000)
    assert error.message == "llmhost.yaml is larger than 1 MB, so it is no configuration of llmhost"


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "pipe"])
def test_what_is_not_a_file_is_refused_and_not_waited_for(name: str) -> None:
    os.mkfifo("pipe")
    with pytest.raises(ConfigError, match=f"cannot read the configuration {name}: it is not a file"):
        load_config(Path(name), environ={})


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, environ={})


@pytest.mark.parametrize("name", ["/nowhere/llmhost.yaml", "llmhost.yaml/below", "a\0b"])
def test_a_file_that_cannot_be_opened_is_refused(name: str) -> None:
    Path("llmhost.yaml").touch()
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(Path(name), environ={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused() -> None:
    Path("llmhost.yaml").touch(mode=0o000)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_config(environ={})


def test_an_unquoted_variable_takes_the_type_of_its_key(load: Load) -> None:
    config = load(
        "redis:\n  host: h\n  port: ${PORT}\n  tls: ${TLS}\n  timeout: ${WAIT}\ncache:\n  threshold: ${T}\n",
        {"PORT": "6380", "TLS": "true", "WAIT": "500ms", "T": "9e-1"},
    )
    assert (config.redis.port, config.redis.tls, config.redis.timeout) == (6380, True, 0.5)
    assert config.cache.threshold == 0.9


@pytest.mark.parametrize("password", ["0123", "1e5", "true", "2024-01-01", "0x1f", "1_000", "12:30:45"])
@pytest.mark.parametrize("written", ["${P}", '"${P}"', "'${P}'"])
def test_a_password_that_looks_like_a_number_is_kept_to_the_letter(
    load: Load, password: str, written: str
) -> None:
    config = load(f"redis:\n  host: h\n  password: {written}\n", {"P": password})
    assert config.redis.password is not None
    assert config.redis.password.get_secret_value() == password


@pytest.mark.parametrize("empty", ["", "~", "null"])
def test_an_unquoted_variable_may_leave_an_optional_key_unset(load: Load, empty: str) -> None:
    assert load("engine:\n  threads: ${T}\n  system: ${T}\n", {"T": empty}) == Config()


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_a_quoted_variable_is_always_text(load: Load, text: str) -> None:
    assert load('engine: {system: "${T}"}\n', {"T": text}).engine.system == text


@given(value=st.text())
def test_a_variable_never_becomes_structure(load: Load, value: str) -> None:
    config = load("engine:\n  system: ${X}\n  seed: 7\n", {"X": value})
    assert config.engine.seed == 7
    assert config.engine.system == (
        None if value.strip() in {"", "~", "null", "Null", "NULL"} else value.rstrip("\r\n")
    )


@pytest.mark.parametrize("value", ["[{url: 'http://h'}]", "- url: http://h", "{url: 'http://h'}"])
def test_a_variable_cannot_make_a_list(refused: Refused, value: str) -> None:
    error = refused("fleet:\n  provider: static\n  workers: ${X}\n", {"X": value})
    assert "`fleet.workers` cannot be text; allowed: list of mappings" in error.message


@given(text=st.one_of(st.text(), st.lists(_PIECES, max_size=30).map("".join), st.binary()))
def test_whatever_the_file_holds_the_answer_is_a_configuration_or_one_clear_line(
    load: Load, text: str | bytes
) -> None:
    try:
        outcome: Config | str = load(text, {"A": "a: [b"})
    except ConfigError as error:
        outcome = error.message
    assert isinstance(outcome, Config) or outcome.isprintable()


def substituted(text: str, limit: int = 1000, **environ: str) -> str:
    return substitute(text, environ, where="file:1: `key`", limit=limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "one"),
        ("<${A}-${EMPTY}-${A}>", "<one--one>"),
        ("${A:-two}", "one"),
        ("${EMPTY:-two}", "two"),
        ("${UNSET:-two}", "two"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a: b, {c # d}", "a: b, {c # d"),
        ("$A and $ and {A}", "$A and $ and {A}"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("${NESTED}", "${A}"),
    ],
)
def test_references_are_replaced_once(text: str, expected: str) -> None:
    assert substituted(text, A="one", EMPTY="", NESTED="${A}") == expected


def test_a_missing_variable_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        substituted("x${NOT_THERE}")
    assert caught.value.message == "file:1: `key`: the environment variable NOT_THERE is not set"
    assert caught.value.hint == "set it, or write ${NOT_THERE:-default}"


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A:x}", "${A-x}", "${ A }", "${A:-${B}}"])
def test_a_reference_that_is_not_well_formed_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a `\\$\\{` without a variable") as caught:
        substituted(text, A="secret", B="secret")
    assert "secret" not in caught.value.message


def test_a_result_that_is_too_long_is_refused_before_it_is_built() -> None:
    with pytest.raises(ConfigError, match="values are too long"):
        substituted("${A}" * 100_000, limit=1_000_000, A="x" * 100_000)


@given(st.text())
def test_the_escape_writes_any_text_literally(text: str) -> None:
    assert substituted(text.replace("${", "$${")) == text
