"""The rules of docs/architecture.md that the import contracts in pyproject.toml cannot state."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import llmhost

ROOT = Path(llmhost.__file__).parent

#: Importing any of these takes longer than a whole command may.
HEAVY = {
    "cryptography",
    "httpx",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "pydantic",
    "redis",
    "requests",
    "rich",
    "sentence_transformers",
    "torch",
    "transformers",
    "uvicorn",
    "vastai",
    "xllamacpp",
    "yaml",
}

#: lines
LONGEST_FUNCTION = 60
LONGEST_FILE = 600

#: What is longer, and why.
LONG_FUNCTIONS: dict[str, str] = {}
LONG_FILES: dict[str, str] = {}


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy() -> None:
    loaded = loaded_by("from llmhost.cli.app import execute; execute(['--help'])")
    assert "llmhost.cli.app" in loaded
    assert loaded & (HEAVY | {"asyncio"}) == set()


def test_commands_import_nothing_heavy_before_they_run() -> None:
    loaded = loaded_by(
        "import importlib, llmhost.cli.errors\n"
        "from llmhost.cli.app import COMMANDS\n"
        "for command in COMMANDS.values(): importlib.import_module(command.target.partition(':')[0])"
    )
    assert "llmhost.cli.commands.ask" in loaded
    assert loaded & HEAVY == set()


def test_a_command_line_of_texts_is_read_without_pydantic() -> None:
    words = ["--quiet", "ask", "--model", "tiny", "--no-cache", "--refresh", "What is Redis?"]
    loaded = loaded_by(f"from llmhost.cli.app import execute; assert execute({words}) == 2")
    assert "llmhost.cli.commands.ask" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("contract", ["cache/contracts", "cache/models", "engines/engine", "fleet/provider"])
def test_contracts_need_only_the_standard_library(contract: str) -> None:
    tree = ast.parse((ROOT / f"{contract}.py").read_text())
    names = {
        name.partition(".")[0]
        for node in tree.body  # not what is imported for types alone
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - set(sys.stdlib_module_names) <= {"llmhost"}


def test_files_and_functions_can_be_read_in_one_go() -> None:
    long_files, long_functions = set(), set()
    for path in ROOT.rglob("*.py"):
        name, source = str(path.relative_to(ROOT)), path.read_text()
        if source.count("\n") > LONGEST_FILE:
            long_files.add(name)
        long_functions |= {
            f"{name}:{node.name}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
        }
    assert long_files == set(LONG_FILES)
    assert long_functions == set(LONG_FUNCTIONS)
