"""The rules of the house (docs/architecture.md), held by reading the imports of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import llmhost

ROOT = Path(llmhost.__file__).parent

#: Importing any of these takes longer than a whole command may.
HEAVY = {
    "httpx",
    "matplotlib",
    "onnxruntime",
    "cryptography",
    "redis",
    "requests",
    "sentence_transformers",
    "torch",
    "transformers",
    "uvicorn",
    "vastai",
    "xllamacpp",
}
#: What reaches out of the process, or reads a clock. `asyncio` and `os` are the doors to the rest.
IO = HEAVY | {
    "asyncio",
    "os",
    "pathlib",
    "psutil",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "time",
    "random",
}

#: Implementations of a contract: built in llmhost/wiring alone.
ADAPTERS = (
    "llmhost.cache.embedders",
    "llmhost.cache.indexes",
    "llmhost.cache.verifiers",
    "llmhost.engines.ollama",
    "llmhost.engines.openai",
    "llmhost.fleet.providers",
)
#: The only places that build them.
WIRING = {
    "llmhost.wiring",
    "llmhost.wiring.questions",
    "llmhost.doctor.gather",
    "llmhost.fleet.workers",
    "llmhost.wiring.fleets",
    "llmhost.wiring.parts",
}
CONTRACTS = {
    "llmhost.cache.contracts",
    "llmhost.cache.models",
    "llmhost.engines.engine",
    "llmhost.fleet.provider",
}
#: Decisions: functions of their arguments, `now` included.
PURE = {
    "llmhost.answering.question",
    "llmhost.cache.verifiers.wording",
    "llmhost.trust.agreement",
    "llmhost.cache.policy",
    "llmhost.cache.calibration",
    "llmhost.cache.models",
    "llmhost.fleet.budget",
    "llmhost.autoscale.demand",
    "llmhost.autoscale.limits",
    "llmhost.config.offer_filter",
    "llmhost.fleet.plan",
    "llmhost.fleet.offers",
    "llmhost.autoscale.models",
    "llmhost.autoscale.policy",
    "llmhost.config.hours",
    "llmhost.ledger.cost",
    "llmhost.lab.simulation.fleet",
    "llmhost.lab.simulation.play",
    "llmhost.lab.simulation.policy",
    "llmhost.lab.simulation.report",
    "llmhost.lab.simulation.baselines",
    "llmhost.lab.simulation.workload",
    *(f"llmhost.cache.guards.{path.stem}" for path in ROOT.glob("cache/guards/[!_]*.py")),
}

#: What draws, and is imported only where a chart is asked for.
CHARTS = {
    "llmhost.lab.plots",
}

#: lines; one screen, and what a reader holds in mind.
LONGEST_FUNCTION = 60
LONGEST_FILE = 600
#: Longer because splitting would make a reader jump.
LONG_FUNCTIONS: set[str] = set()
LONG_FILES = {"config/models.py"}  # every key in one place


@dataclass(frozen=True)
class Import:
    """`name` is a module, or something in it. `eager`: it happens when the file is imported."""

    name: str
    eager: bool

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def imports_in(source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    late = {
        id(inner)
        for node in ast.walk(tree)
        if _is_late(node)
        for inner in ast.walk(node)
        if inner is not node
    }
    for node in ast.walk(tree):
        eager = id(node) not in late
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (Import(f"{node.module}.{alias.name}", eager) for alias in node.names)


def _is_late(node: ast.AST) -> bool:
    """Whether what stands in it is not run when the file is imported."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


@cache
def modules() -> dict[str, Path]:
    """Every module of llmhost by its name."""
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = ("llmhost", *path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    return tuple(imports_in(modules()[module].read_text()))


def module_of(name: str) -> str:
    """The module of ours that is meant by an import of `name`, which may be something in it."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


@cache
def reached_from(module: str) -> frozenset[str]:
    """The modules of ours that are imported, one by another, when `module` is; itself included."""
    reached = {module}
    waiting = [module]
    while waiting:
        eager = (module_of(used.name) for used in imports_of(waiting.pop()) if used.eager)
        new = {name for name in eager if name} - reached
        reached |= new
        waiting += new
    return frozenset(reached)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def breaches(rule: str, forbidden: set[str]) -> list[str]:
    """Modules in the package `rule` with what they import of the packages `forbidden`, at any depth."""
    return [
        f"{module} imports {used.name}"
        for module in modules()
        if is_in(module, rule)
        for used in imports_of(module)
        if any(is_in(used.name, package) for package in forbidden)
    ]


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import a.b
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import c
class D:
    import e
    def f(self):
        from g import h
try:
    import i
except ImportError:
    pass
"""
    found = {(used.name, used.eager) for used in imports_in(source)} - {("typing.TYPE_CHECKING", True)}
    assert found == {("a.b", True), ("c", False), ("e", True), ("g.h", False), ("i", True)}


def test_every_module_that_a_rule_names_is_there() -> None:
    named = {
        *ADAPTERS,
        *WIRING,
        *CONTRACTS,
        *PURE,
        *CHARTS,
        *(f"llmhost.{file[:-3].replace('/', '.')}" for file in LONG_FILES),
    }
    assert named - set(modules()) == set()


def test_only_the_command_line_knows_typer_and_rich() -> None:
    below = [name for name in modules() if not is_in(name, "llmhost.cli")]
    found = [
        (name, used.name) for name in below for used in imports_of(name) if used.package in {"typer", "rich"}
    ]
    assert found == []


def test_nothing_below_imports_the_command_line() -> None:
    below = [name for name in modules() if not is_in(name, "llmhost.cli") and name != "llmhost.__main__"]
    found = [
        (name, used.name) for name in below for used in imports_of(name) if is_in(used.name, "llmhost.cli")
    ]
    assert found == []


def test_only_wiring_imports_adapters() -> None:
    found = [
        (module, used.name)
        for module in modules()
        if module not in WIRING
        for used in imports_of(module)
        for adapter in ADAPTERS
        if is_in(used.name, adapter) and not is_in(module, adapter)
    ]
    assert found == []


def test_only_the_command_line_imports_wiring() -> None:
    found = [
        (module, used.name)
        for module in modules()
        if not is_in(module, "llmhost.cli") and module not in WIRING
        for used in imports_of(module)
        if module_of(used.name) in WIRING
    ]
    assert found == []


def test_fleet_and_cache_do_not_know_each_other() -> None:
    assert breaches("llmhost.fleet", {"llmhost.cache"}) + breaches("llmhost.cache", {"llmhost.fleet"}) == []


def test_only_charts_import_matplotlib() -> None:
    found = {
        module
        for module in modules()
        for used in imports_of(module)
        if used.package == "matplotlib" or (used.eager and module_of(used.name) in CHARTS)
    }
    assert found - CHARTS == set()


@pytest.mark.parametrize("module", sorted(CONTRACTS))
def test_a_contract_needs_nothing_but_our_own_values_and_the_standard_library(module: str) -> None:
    packages = {used.package for used in imports_of(module) if used.eager}
    assert packages - set(sys.stdlib_module_names) <= {"llmhost"}


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_decision_does_no_io_and_reads_no_clock(module: str) -> None:
    reached = {
        (name, used.name)
        for name in reached_from(module)
        for used in imports_of(name)
        if used.package in IO and (used.eager or name == module)
    }
    assert reached == set()


def command_modules() -> list[str]:
    from llmhost.cli.app import COMMANDS

    return [command.target.partition(":")[0] for command in COMMANDS.values()]


@pytest.mark.parametrize("module", ["llmhost.cli.app", "llmhost.cli.errors", *command_modules()])
def test_nothing_heavy_is_imported_before_a_command_runs(module: str) -> None:
    heavy = HEAVY | {"numpy", "pydantic", "rich", "yaml"}
    found = {
        (name, used.name)
        for name in reached_from(module)
        for used in imports_of(name)
        if used.eager and used.package in heavy
    }
    assert found == set()


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from llmhost.cli.app import execute; execute(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "llmhost.cli.app" in loaded
    assert loaded & (HEAVY | {"asyncio", "numpy", "pydantic", "rich", "yaml"}) == set()


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_can_be_read_in_one_go(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    source = path.read_text()
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    long = {f"{name}:{f.name}" for f in functions if (f.end_lineno or 0) - f.lineno >= LONGEST_FUNCTION}
    assert long - LONG_FUNCTIONS == set()
    assert source.count("\n") <= LONGEST_FILE or name in LONG_FILES
