"""A larger verifier beside the small one: when it is asked, what it adds, and where it comes from."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from doubles.larger_verifier import make_larger, small_manifest

from llmhost.cache.verifiers.load import FOLDER, check_verifier, labels_name, load_verifier
from llmhost.cache.verifiers.manifest import MODEL
from llmhost.cache.verifiers.onnx import OnnxVerifier
from llmhost.config.models import CacheConfig
from llmhost.errors import ModelError
from llmhost.wiring.questions import thresholds, verified_policy

PACKAGED = Path(__file__).parents[3] / "packages" / "verifier" / "llmhost_verifier"

SAME = ("Which tyres fit my bike?", "What tyres can I put on my bicycle?")
OTHER = ("How do I change my password?", "How can I reset the password of my account?")
MISSED = ("What causes thunder?", "Where does the sound of thunder come from?")
FOREIGN = ("Wie werde ich reich?", "Wie werde ich schnell reich?")


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def load(name: str) -> OnnxVerifier:
    verifier = load_verifier(name, on_progress=lambda _: None)
    assert isinstance(verifier, OnnxVerifier)
    return verifier


@pytest.mark.parametrize("given", [-2.0, 1.5])
def test_its_log_odds_are_added_to_a_share_of_the_small_ones(
    builtin: OnnxVerifier, tmp_path: Path, given: float
) -> None:
    folder = make_larger(tmp_path / "larger", given, slope=0.8, intercept=0.2, small=0.3)
    expected = 0.3 * log_odds(builtin.probability(*SAME)) + 0.8 * given + 0.2
    assert log_odds(OnnxVerifier(FOLDER, folder).probability(*SAME)) == pytest.approx(expected, abs=1e-4)


def test_where_the_small_one_says_no_it_is_not_asked(builtin: OnnxVerifier, tmp_path: Path) -> None:
    alone = builtin.probability(*OTHER)
    assert OnnxVerifier(FOLDER, make_larger(tmp_path / "larger", 40.0)).probability(*OTHER) == alone < 0.4


def test_of_what_neither_has_learnt_it_makes_nothing_sure(tmp_path: Path) -> None:
    assert OnnxVerifier(FOLDER, make_larger(tmp_path / "larger", 40.0)).probability(*FOREIGN) <= 0.5


def test_the_order_does_not_matter_to_a_model_that_reads_one_order(tmp_path: Path) -> None:
    verifier = OnnxVerifier(FOLDER, make_larger(tmp_path / "larger", -1.0, by_second=1e-4))
    assert verifier.probability(*SAME) == pytest.approx(verifier.probability(*SAME[::-1]), abs=1e-6)


def test_what_it_cannot_read_whole_is_never_the_same(tmp_path: Path) -> None:
    assert (
        OnnxVerifier(FOLDER, make_larger(tmp_path / "larger", 40.0, max_tokens=5)).probability(*SAME) == 0.0
    )


def test_a_configured_folder_with_one_is_used_beside_the_small_one(tmp_path: Path) -> None:
    folder = make_larger(tmp_path / "larger", 40.0)
    check_verifier(str(folder))
    verifier = load(str(folder))
    assert verifier.id == f"{small_manifest().id}+larger"
    assert verifier.probability(*SAME) > 0.999


def test_a_configured_folder_with_one_that_stands_alone_is_used_alone(tmp_path: Path) -> None:
    folder = make_larger(tmp_path / "other", 1.0, beside=None)
    verifier = load(str(folder))
    assert verifier.id == "larger"
    assert log_odds(verifier.probability(*SAME)) == pytest.approx(1.0, abs=1e-4)


def test_one_that_was_calibrated_beside_another_small_one_is_an_error(tmp_path: Path) -> None:
    folder = make_larger(tmp_path / "larger", 1.0, beside="verifier-00000000")
    with pytest.raises(ModelError, match=f"stands beside verifier-00000000, not {small_manifest().id}"):
        load(str(folder))


def test_the_name_large_is_the_package_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_larger(tmp_path / "site" / "llmhost_verifier", 40.0)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert check_verifier("large") == "large is ready"
    assert load("large").probability(*SAME) > 0.999
    (folder / MODEL).write_bytes(bytes((folder / MODEL).stat().st_size))
    with pytest.raises(ModelError, match="missing or damaged"):
        check_verifier("large")


@pytest.mark.parametrize("use", [check_verifier, load])
def test_without_the_package_the_name_large_is_an_error_that_says_what_to_install(
    use: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llmhost_verifier", None)
    with pytest.raises(ModelError, match="`large` is not installed") as error:
        use("large")  # type: ignore[operator]
    assert error.value.hint == "run `pip install 'llmhost[verifier]'`, or set `cache.verifier` to `builtin`"


def test_the_labels_of_each_verifier_have_a_name_of_their_own(tmp_path: Path) -> None:
    larger = str(make_larger(tmp_path, 1.0))
    named = {name: labels_name(CacheConfig(verifier=name)) for name in ("builtin", larger, "cross-encoder/x")}
    assert named == {
        "builtin": "verified",
        larger: f"{small_manifest().id}+larger",
        "cross-encoder/x": "cross-encoder/x",
    }
    assert labels_name(CacheConfig(policy="threshold", verifier=larger)) == "threshold"


def test_labels_of_a_verifier_that_is_missing_are_kept_by_its_configured_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "llmhost_verifier", None)
    assert labels_name(CacheConfig(verifier="large")) == "large"


def test_it_is_slow_and_the_small_one_is_not(tmp_path: Path) -> None:
    folder = str(make_larger(tmp_path / "larger", 1.0))
    config = CacheConfig()
    assert [
        verified_policy(name, thresholds(config), lambda _: None).slow for name in (folder, config.verifier)
    ] == [True, False]


def test_the_packaged_one_stands_beside_the_small_one_of_this_version_and_fits_into_a_repository() -> None:
    assert check_verifier(str(PACKAGED)) == f"{PACKAGED} is ready"
    sizes = [
        path.stat().st_size for folder in (FOLDER, PACKAGED) for path in folder.iterdir() if path.is_file()
    ]
    assert max(sizes) < 60_000_000
    assert sum(sizes) < 110_000_000


def test_the_packaged_one_finds_a_rewording_that_the_small_one_misses(builtin: OnnxVerifier) -> None:
    both = load(str(PACKAGED))
    assert builtin.probability(*MISSED) < 0.8 <= both.probability(*MISSED)
    assert both.probability(*MISSED) == both.probability(*MISSED[::-1])
