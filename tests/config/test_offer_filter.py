"""Filters in the words of vast.ai's own command line."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.fleet import OFFERS
from llmhost.config.load import load_config
from llmhost.config.offer_filter import FIELDS, parse_filter
from llmhost.errors import ConfigError

#: A row as the API gives it back, with what the filters here ask about.
ROW: dict[str, object] = {
    "gpu_name": "RTX 4090",
    "num_gpus": 1,
    "gpu_ram": 24_564,
    "gpu_total_ram": 24_564,
    "cpu_ram": 64_000,
    "cpu_cores": 32,
    "dph_total": 0.35,
    "reliability": 0.991,
    "inet_down": 812.5,
    "inet_down_cost": 0.0029,
    "duration": 864_000.0,
    "geolocation": "California, US",
    "verification": "verified",
    "hosting_type": 0,
    "static_ip": True,
    "has_avx": 1,
    "cuda_max_good": 12.4,
    "driver_version": "550.54.15",
    "direct_port_count": 100,
    "machine_id": 4711,
    "min_bid": None,
    "external": None,
}


def accepts(text: str, **changes: object) -> bool:
    return all(term.accepts({**ROW, **changes}) for term in parse_filter(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu_name=RTX_4090",
        "gpu_name = 'RTX 4090'",
        'gpu_name=="rtx 4090"',
        "gpu_name!=RTX_3090",
        "gpu_name in [RTX_4090,RTX_3090]",
        'gpu_name in ["RTX 4090", "RTX 3090"]',
        "gpu_name in RTX_4090,RTX_3090",
        "gpu_name in [RTX 4090 , RTX 3090,]",
        "gpu_name notin [RTX_3090]",
        "gpu_name not in [RTX_3090]",
        "num_gpus=1 num_gpus in [1,2]",
        "reliability > 0.95 reliability<=.991",
        "gpu_ram>=24 gpu_ram<24.6 gpu_total_ram>24 cpu_ram=64",
        "duration>=10 duration<10.5",
        "geolocation=US",
        "geolocation in [de,us]",
        "geolocation notin [CN,VN]",
        "geolocation=california",
        "verified=true verified!=false",
        "verified=True verification=verified",
        "datacenter=false static_ip=true has_avx=true",
        "driver_version>=535.86.05 driver_version<551 driver_version=550.54.15",
        "dph<0.5 cuda_vers>=12 inet_down_cost<=2.9e-3",
        "min_bid=any verified=any gpu_name=*",
        "\n gpu_name=RTX_4090\n  reliability>0.95\n",
    ],
)
def test_an_offer_fits(text: str) -> None:
    assert accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        "gpu_name=RTX_4090_D",
        "gpu_name=RTX",
        "gpu_name!=RTX_4090",
        "gpu_name in [RTX_3090]",
        "gpu_name notin [RTX_4090]",
        "reliability>0.991",
        "reliability<0.991",
        "gpu_ram>=24.6",
        "duration>10",
        "geolocation=CA",
        "geolocation=DE",
        "geolocation=Cali",
        "verified=false",
        "datacenter=true",
        "driver_version>550.54.15",
        "reliability>0.9 num_gpus=2",
    ],
)
def test_an_offer_does_not_fit(text: str) -> None:
    assert not accepts(text)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("reliability>0.95", {"reliability": None, "reliability2": 0.99}),
        ("verified=true", {"verification": None, "verified": True}),
        ("verified=false", {"verification": "unverified"}),
        ("datacenter=true", {"hosting_type": 1}),
        ("datacenter=true", {"hosting_type": None, "datacenter": True}),
        ("geolocation=North_Carolina", {"geolocation": "North Carolina, US"}),
        ("geolocation=SE", {"geolocation": ", SE"}),
        ("geolocation=SE", {"geolocation": "SE"}),
    ],
)
def test_a_row_may_say_it_in_several_ways(text: str, changes: dict[str, object]) -> None:
    assert accepts(text, **changes)


def test_two_letters_are_a_country_and_not_a_state() -> None:
    assert not accepts("geolocation=CA", geolocation="San Jose, CA, US")
    assert accepts("geolocation=CA", geolocation="Quebec, CA")


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("reliability>0", {"reliability": None}),
        ("reliability>0", {"reliability": "0.99"}),
        ("reliability>0", {"reliability": True}),
        ("reliability>0", {"reliability": float("nan")}),
        ("inet_down>=0", {"inet_down": 10**400}),
        ("min_bid>=0", {}),
        ("gpu_name!=RTX_3090", {"gpu_name": None}),
        ("gpu_name notin [RTX_3090]", {"gpu_name": 4090}),
        ("verified!=true", {"verification": 7}),
        ("static_ip!=true", {"static_ip": "yes"}),
        ("driver_version!=1", {"driver_version": "unknown"}),
    ],
)
def test_a_row_that_does_not_say_does_not_fit(text: str, changes: dict[str, object]) -> None:
    assert not accepts(text, **changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpu_nam=RTX_4090", "offers have no field `gpu_nam`; did you mean `gpu_name`?"),
        ("xyzzy=1", "offers have no field `xyzzy`"),
        ("gpu_name RTX_4090", "expected one of = != > >= < <= in notin after `gpu_name`, not `RTX_4090`"),
        ("gpu_name~RTX", "expected one of = != > >= < <= in notin after `gpu_name`, not `~RTX`"),
        ("gpu_name", "expected one of = != > >= < <= in notin after `gpu_name`"),
        ("reliability >=", "expected one value after `reliability >=`"),
        ("reliability=>0.9", "expected one value after `reliability=`, not `>0.9`"),
        ("gpu_name='RTX", "expected one value after `gpu_name=`, not `'RTX`"),
        ("reliability>0.9 =3", "expected the name of a field at `=3`"),
        ("reliability>much", "`reliability` must be a number, not `much`"),
        ("reliability>0,95", "`reliability` must be a number, not `0,95`"),
        ("inet_down>1e999", "`inet_down` must be a number, not `1e999`"),
        ("inet_down>nan", "`inet_down` must be a number, not `nan`"),
        ("reliability>95", "`reliability` cannot be 95: it is from 0 to 1"),
        ("inet_down>-1", "`inet_down` cannot be -1: it is 0 or more"),
        ("num_gpus=1.5", "`num_gpus` must be a whole number, not 1.5"),
        ("verified=yes", "`verified` must be true or false, not `yes`"),
        ("driver_version>new", "`driver_version` must be a version such as 535.86.05, not `new`"),
        ("gpu_name=''", "`gpu_name` needs a text"),
        ("gpu_name=_", "`gpu_name` needs a text"),
        ("gpu_name in []", "`gpu_name in` needs at least one value"),
        ("gpu_name=[A,B]", "`=` takes one value; for several write `gpu_name in [one,other]`"),
        ("gpu_name=A,B", "`=` takes one value; for several write `gpu_name in [one,other]`"),
        ("gpu_name in ['A' B]", "expected commas between the values in `['A' B]`"),
        ("gpu_name>A", "`gpu_name` has no order: use `=`, not `>`"),
        ("verified!=any", "`any` needs the operator `=`, not `!=`"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as mistake:
        parse_filter(text)
    assert str(mistake.value) == sentence


@pytest.mark.parametrize(
    "text",
    [
        "reliability>1",
        "inet_down<0",
        "reliability>0.9 reliability<0.5",
        "num_gpus>1 num_gpus<2",
        "num_gpus in [1,2] num_gpus>=3",
        "gpu_name=RTX_4090 gpu_name=RTX_3090",
        "gpu_name=RTX_4090 gpu_name notin [RTX_4090]",
        "verified=true verified=false",
        "driver_version>550 driver_version<=550",
        "dph<0.2 dph_total>0.3",
    ],
)
def test_what_no_offer_can_fit_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match="no offer can fit"):
        parse_filter(f"static_ip=true {text}")


@pytest.mark.parametrize(
    "text",
    [
        "reliability>0.5 reliability<0.9",
        "reliability>=1",
        "num_gpus>1 num_gpus<3",
        "gpu_name!=RTX_4090 gpu_name!=RTX_3090",
        "geolocation=US geolocation=California",
        "driver_version>550 driver_version<551",
        "inet_down>=100 inet_down!=100",
    ],
)
def test_what_some_offer_could_fit_is_none(text: str) -> None:
    assert parse_filter(text)


def test_terms_stand_as_they_will_be_shown() -> None:
    shown = [term.text for term in parse_filter("gpu_name == RTX_4090  geolocation not in [ CN , VN ]")]
    assert shown == ["gpu_name=RTX_4090", "geolocation notin [CN,VN]"]


def test_every_message_is_short_whatever_was_written() -> None:
    with pytest.raises(ValueError, match="expected") as mistake:
        parse_filter("gpu_name ~\n" + "x" * 5_000)
    assert len(str(mistake.value)) < 150
    assert "\n" not in str(mistake.value)


def test_the_filter_of_the_configuration_is_one() -> None:
    assert [term.text for term in parse_filter(OFFERS)] == OFFERS.split()


def test_a_mistake_in_the_configuration_says_where_it_stands() -> None:
    Path("llmhost.yaml").write_text("vast:\n  offers: gpu_nam=RTX_4090\n")
    with pytest.raises(ConfigError) as refused:
        load_config(environ={})
    assert refused.value.message == (
        "llmhost.yaml:2: `vast.offers` cannot be `gpu_nam=RTX_4090`: "
        "offers have no field `gpu_nam`; did you mean `gpu_name`?"
    )


NAMES = st.sampled_from(sorted(FIELDS))
OPERATORS = st.sampled_from(["=", "==", "!=", ">", ">=", "<", "<=", " in ", " notin ", " not in "])
VALUES = st.one_of(
    st.floats(0, 1e6).map(str),
    st.integers(0, 99).map(str),
    st.sampled_from(
        ["true", "False", "RTX_4090", "'RTX 4090'", '"a, b]"', "[1,2]", "['A b', c]", "550.1", "any"]
    ),
    st.text("ab_-.,'\"[]= \n", min_size=1, max_size=6),
)
PIECES = st.tuples(NAMES, OPERATORS, VALUES).map("".join)
FILTERS = st.lists(PIECES, max_size=4).map(" ".join)
JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.none())


@given(FILTERS | st.text(max_size=40))
def test_no_text_raises_anything_but_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_filter(text)


@given(FILTERS)
def test_the_text_of_a_term_is_that_term(text: str) -> None:
    with contextlib.suppress(ValueError):
        for term in parse_filter(text):
            assert parse_filter(term.text) == (term,)


@given(PIECES, JSON)
def test_no_row_breaks_a_term(text: str, raw: Any) -> None:
    with contextlib.suppress(ValueError):
        for term in parse_filter(text):
            columns = dict.fromkeys(term.field.columns, raw)
            assert term.accepts(columns) in (True, False)
            assert not term.accepts({})
