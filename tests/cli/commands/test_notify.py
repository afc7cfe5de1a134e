"""`llmhost notify test`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.cli import Ran


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_where_nobody_is_to_be_notified_it_says_so(cli: Callable[..., Ran]) -> None:
    ran = cli("notify", "test")
    assert ran.code == 2
    assert "notify.slack" in ran.stderr


def test_it_says_who_got_it_and_who_did_not(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, refusing_port: int
) -> None:
    monkeypatch.setenv("LLMHOST_NOTIFY__COMMAND", "true")
    assert cli("notify", "test").code == 0
    monkeypatch.setenv("LLMHOST_NOTIFY__WEBHOOK", f"http://127.0.0.1:{refusing_port}/")
    ran = cli("notify", "test", "--json")
    assert ran.code == 3
    assert {row["to"]: row["ok"] for row in ran.json["sent"]} == {"webhook": False, "command": True}
    monkeypatch.setenv("LLMHOST_NOTIFY__COMMAND", "false")
    assert cli("notify", "test").code == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notify: {slack: not-a-url}", "`notify.slack` is no http:// or https:// URL"),
        ("notify: {ntfy_token: x}", "`notify.ntfy_token` needs `notify.ntfy`"),
    ],
)
def test_what_cannot_be_sent_to_is_refused(
    cli: Callable[..., Ran], folder: Path, text: str, words: str
) -> None:
    (folder / "llmhost.yaml").write_text(text)
    ran = cli("notify", "test")
    assert ran.code == 2
    assert words in ran.stderr
