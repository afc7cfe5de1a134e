"""What the documents say about commands, settings and files is so."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugins.cli import Ran

from llmhost.config.load import load_config
from llmhost.config.models import RENAMED
from llmhost.config.schema import is_known, sections

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
DOCUMENTS += sorted((REPOSITORY / "docs").glob("*.md"))

_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
_SECTION_LINK = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_KEY = re.compile(r"([a-z_]+(?:\.[a-z_]+)+)(?:: .*)?")
#: Files whose names look like keys.
_SUFFIXES = (".conf", ".log", ".py", ".sock", ".yaml")
_FILE = re.compile(r"(?:\./)?((?:bench|configs|docs|llmhost|scripts|tests)/[\w./-]*\w)")
_VARIABLE = re.compile(r"\$\{(\w+)")

#: pages with one way through them, as against those in which one looks something up
HOW_TO = [
    "caching",
    "chat",
    "clients",
    "cost-analysis",
    "deploy",
    "embeddings",
    "engines",
    "installation",
    "profiling",
    "quickstart",
    "scaling",
    "setup",
    "stats",
    "upgrading",
    "vast-commands",
]

#: The document of fields that look like keys.
_JSON_FIELDS = "json.md"

#: Documents that say how keys were renamed.
_NAMING_OLD_KEYS = ("configuration.md",)

#: What a variable of an example may hold, where its key takes no text.
_VALUES = {
    "NOTIFY_WEBHOOK": "https://hooks.example.com/llm",
    "SLACK_WEBHOOK": "https://hooks.slack.example.com/services/T/B/X",
    "REDIS_PORT": "6380",
    "REDIS_URL": "rediss://redis.example.com",
    "REDIS_WORKER_URL": "rediss://worker:secret@redis.example.com",
}


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The language and the text of each fenced block."""
    return ((match[1], match[2]) for match in _FENCED.finditer(text))


def code(text: str) -> Iterator[str]:
    """What stands in backticks within a line or two, on one line."""
    return (" ".join(match.split()) for match in _CODE.findall(_FENCED.sub("", text)))


def command_lines(text: str) -> Iterator[str]:
    """Command lines of llmhost in blocks, from behind a pipe too, and in backticks."""
    for language, block in blocks(text):
        if language in {"", "bash"}:
            for line in block.splitlines():
                last = line.split(" | ")[-1].strip()
                if last.startswith("llmhost "):
                    yield last
    yield from (span for span in code(text) if span.startswith("llmhost "))


def words(line: str) -> list[str]:
    """What follows the program's name, without comment."""
    return shlex.split(line, comments=True)[1:]


def keys(text: str) -> Iterator[str]:
    """What looks like a key of the configuration."""
    first = {name.partition(".")[0] for name, _ in sections()}
    for span in code(text):
        match = _KEY.fullmatch(span)
        if match and match[1].partition(".")[0] in first and not match[1].endswith(_SUFFIXES):
            yield match[1]


def found(find: Callable[[str], Iterator[str]]) -> list[tuple[str, str]]:
    """Each different thing that `find` finds, with the document that it stands in."""
    return sorted({(path.name, thing) for path in DOCUMENTS for thing in find(path.read_text())})


def messages(text: str) -> Iterator[str]:
    """What stands in backticks in the first column of a table whose heading is "you see"."""
    for table in re.findall(r"^\| you see \|.*\n\| --- .*\n((?:\|.*\n)*)", text, re.MULTILINE):
        for row in table.splitlines():
            yield from _CODE.findall(row.split(" | ")[0])


def literals() -> str:
    """Each text that stands in llmhost's code, one a line, with `…` for what is put in."""
    found = []
    for path in (REPOSITORY / "llmhost").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def yaml_blocks(text: str) -> Iterator[str]:
    return (block for language, block in blocks(text) if language == "yaml")


def test_commands_keys_and_blocks_are_found_in_a_document() -> None:
    text = (
        "See `llmhost up\n--yes` and `fleet.gpus`, `fleet.max_gpus: 3`, `cache.py`.\n"
        "```\nllmhost down  # all\ngit diff | llmhost ask\n```\n```yaml\nfleet: {gpus: 2}\n```\n"
    )
    assert list(command_lines(text)) == ["llmhost down  # all", "llmhost ask", "llmhost up --yes"]
    assert words("llmhost ask 'a b'  # c") == ["ask", "a b"]
    assert list(keys(text)) == ["fleet.gpus", "fleet.max_gpus"]
    assert list(yaml_blocks(text)) == ["fleet: {gpus: 2}\n"]


@pytest.mark.parametrize(("document", "line"), found(command_lines))
def test_a_command_line_has_a_command_and_options_that_exist(
    cli: Callable[..., Ran], document: str, line: str
) -> None:
    args = words(line)
    end = args.index("--") if "--" in args else len(args)
    ran = cli(*args[:end], "--help", *args[end:])  # the line is read, and nothing is done
    assert (ran.code, ran.stderr) == (0, ""), document


def test_a_message_that_is_explained_is_one_of_llmhosts() -> None:
    explained = list(messages((REPOSITORY / "docs/troubleshooting.md").read_text()))
    assert len(explained) > 40
    code = literals()
    said = {message: [part.strip(" ,:;`") for part in message.split("…")] for message in explained}
    assert [message for message, parts in said.items() if not all(part in code for part in parts)] == []


@pytest.mark.parametrize(("document", "key"), [pair for pair in found(keys) if pair[0] != _JSON_FIELDS])
def test_a_key_of_the_configuration_exists(document: str, key: str) -> None:
    assert is_known(key) or key in dict(sections()) or (document in _NAMING_OLD_KEYS and key in RENAMED)


@pytest.mark.parametrize(("document", "block"), found(yaml_blocks))
def test_a_configuration_can_be_used_as_it_stands(document: str, block: str) -> None:
    environ = {name: _VALUES.get(name, "text") for name in _VARIABLE.findall(block)}
    Path(document).write_text(block)
    load_config(Path(document), environ=environ)


@pytest.mark.parametrize("path", [*DOCUMENTS, REPOSITORY / "CHANGELOG.md"], ids=lambda path: path.name)
def test_a_link_between_documents_leads_somewhere(path: Path) -> None:
    targets = [target for target in _LINK.findall(path.read_text()) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def sections_of(path: Path) -> set[str]:
    """The names by which its headings can be linked to."""
    headings = _HEADING.findall(_FENCED.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*DOCUMENTS, REPOSITORY / "CHANGELOG.md"], ids=lambda path: path.name)
def test_a_link_to_a_section_leads_to_a_heading(path: Path) -> None:
    links = _SECTION_LINK.findall(path.read_text())
    targets = [(path.parent / name if name else path, section) for name, section in links]
    assert [to for to in targets if to[0].suffix == ".md" and to[1] not in sections_of(to[0])] == []


@pytest.mark.parametrize("name", HOW_TO)
def test_a_page_that_shows_how_to_do_something_is_read_in_a_few_minutes(name: str) -> None:
    assert len((REPOSITORY / "docs" / f"{name}.md").read_text().split()) <= 1_500


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_file_that_is_named_exists(path: Path) -> None:
    """`NAME` stands for what a contributor adds: there, the folder must exist."""
    named = [match[1] for span in code(path.read_text()) if (match := _FILE.fullmatch(span))]
    files = [name.rpartition("/")[0] if "NAME" in name else name for name in named]
    assert [name for name in files if not (REPOSITORY / name).exists()] == []
