"""Writes the files that are made from the configuration's models: run it after changing them."""

from __future__ import annotations

from pathlib import Path

from llmhost.config.reference import render_reference, render_template

REPOSITORY = Path(__file__).parent.parent


def generated() -> dict[str, str]:
    """The text of each generated file, by its path from the repository's root."""
    return {"docs/configuration.md": render_reference(), "configs/local.yaml": render_template()}


if __name__ == "__main__":
    for name, text in generated().items():
        (REPOSITORY / name).write_text(text, encoding="utf-8")
