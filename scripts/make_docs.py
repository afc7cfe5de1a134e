"""Writes the files that are made from the configuration's models: run it after changing them."""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from llmhost.config.cost import Baseline
from llmhost.config.fields import Section
from llmhost.config.fleet import StaticWorker
from llmhost.config.models import RENAMED
from llmhost.config.schema import allowed, sections, subsection
from llmhost.config.template import render_template, written

REPOSITORY = Path(__file__).parent.parent

_HEAD = """\
# Configuration

<!-- Written by scripts/make_docs.py from llmhost/config. Do not edit it here. -->

llmhost works without a configuration file: it then runs a local fleet of one worker and an embedded Redis.
`llmhost init` writes a file with a comment on every key; `configs/local.yaml` is that file.
`configs/vast.yaml` is a short one for GPUs rented on vast.ai ([setup.md](setup.md)).

## Where it comes from

Later sources override earlier ones:

1. the defaults below;
2. one YAML file: `--config PATH`, else the path in `LLMHOST_CONFIG`, else `./llmhost.yaml`, else
   `llmhost.yaml` in your configuration folder (`~/.config/llmhost/` on Linux). A file that you name must
   exist. One that is found in the current folder without being named may have come with a download, so it
   cannot start a program (`redis.server`) or send `VAST_API_KEY` anywhere but to vast.ai;
3. environment variables, one per key: `LLMHOST_FLEET__GPUS=2` sets `fleet.gpus`, and
   `LLMHOST_FLEET__BUDGET__PER_HOUR=2` sets `fleet.budget.per_hour`: two underscores stand for the dot;
4. flags, such as `--gpus 2`.

An unknown key or a value that is not allowed is an error (exit code 2), never ignored. The message
names the file and the line, the value, and what is allowed. Values of secrets are not shown.

`llmhost config show` says which values are in force, and where each comes from; `llmhost config validate`
checks a file.

## In an editor

`llmhost config schema > llmhost.schema.json` writes a JSON Schema, by which editors with a YAML language
server complete and check the file, if its first line is
`# yaml-language-server: $schema=llmhost.schema.json`.

## How values are written

- **Variables.** `${NAME}` is replaced with that environment variable, and must be set.
  `${NAME:-default}` takes the default where the variable is not set or empty. `$${` is a literal `${`.
  Variables work in values, not in keys, and cannot add keys or lists. Use them for secrets:
  `password: ${REDIS_PASSWORD}`.
- **Durations** are a number and a unit, `ms`, `s`, `m`, `h` or `d`: `100ms`, `90s`, `24h`, `7d`. A bare
  number is seconds. The shortest is `1ms`, the longest `3650d`.
- **Paths** that begin with `./` or `../` are relative to the configuration file.
- **Unset.** An empty value, `~` or `null` unsets an optional key, in the file, in a variable and in the
  environment. Quoted, it is text.
- **Text** needs no quotes, unless it begins with a character such as `@` or `*`, or contains `: ` or ` #`.
- YAML anchors, aliases and tags are not supported. A configuration is a file of at most 1 MB, no pipe.

"""


def generated() -> dict[str, str]:
    """The text of each generated file, by its path from the repository's root."""
    return {"docs/configuration.md": render_reference(), "configs/local.yaml": render_template()}


def render_reference() -> str:
    """The text of docs/configuration.md."""
    tables = [_section_reference(f"`{name}`", section) for name, section in sections()]
    tables.append(_section_reference("An entry of `fleet.workers`", StaticWorker))
    tables.append(_section_reference("An entry of `cost.baselines`", Baseline))
    tables.append(_renamed())
    return _HEAD + "\n".join(tables)


def _renamed() -> str:
    names = "\n".join(f"- `{old}` is now `{new}`" for old, new in RENAMED.items())
    return (
        "## Renamed keys\n\nThe old names, and their environment variables, still work with a warning. The "
        f"next release will remove them.\n\n{names}\n"
    )


def _section_reference(title: str, section: type[Section]) -> str:
    rows = "\n".join(_row(key, field) for key, field in section.model_fields.items() if not subsection(field))
    head = "| key | allowed | default | meaning |\n| --- | --- | --- | --- |"
    return f"## {title}\n\n{section.__doc__}\n\n{head}\n{rows}\n"


def _row(key: str, field: FieldInfo) -> str:
    cells = (f"`{key}`", allowed(field), _default(field), field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "none" if value is None or value == () else f"`{written(field, value)}`"


if __name__ == "__main__":
    for name, text in generated().items():
        (REPOSITORY / name).write_text(text, encoding="utf-8")
