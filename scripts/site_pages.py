"""A hook of mkdocs for scripts/mkdocs.yml: which pages the site has, and in which order.

The site is laid out as the repository, with README.md as its first page, so links between documents lead
where they lead there.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent
_INDEX = "docs/README.md"

_GROUP = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_LINK = re.compile(r"\]\(([\w./-]+\.md)(?:#[\w-]*)?\)")


def on_config(config: MkDocsConfig) -> None:
    """Makes the navigation: the groups of docs/README.md, each page in the first that names it.

    Documents beside docs/ are watched as those in it are.
    """
    index = (_ROOT / _INDEX).read_text(encoding="utf-8")
    listed: set[str] = set()
    groups = []
    for title, body in _GROUP.findall(index):
        pages = [page for page in dict.fromkeys(map(_path, _LINK.findall(body))) if page not in listed]
        listed.update(pages)
        groups.append({title: pages})
    config.nav = [{"Start": [{"Overview": "README.md"}, _INDEX, "CHANGELOG.md"]}, *groups]
    config.watch += [str(path) for path in _ROOT.glob("*.md")]


def _path(link: str) -> str:
    """The path in the repository that a link of docs/README.md leads to."""
    return str((_ROOT / _INDEX).parent.joinpath(link).resolve().relative_to(_ROOT))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ in a folder of that name, the documents beside it, and what the theme brings."""
    ours = [file for file in files if file.src_dir == config.docs_dir]
    paths = [f"docs/{file.src_uri}" for file in ours]
    paths += [path.name for path in _ROOT.glob("*.md")]
    for file in ours:
        files.remove(file)
    for path in sorted(paths):
        files.append(File.generated(config, path, abs_src_path=str(_ROOT / path)))
    return files
