"""`${VAR}` and `${VAR:-default}` in the values of a configuration file; `$${` is a literal `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmhost.errors import ConfigError

__all__ = ["substitute"]

#: A `${` that neither the escape nor a whole reference explains matches with no group at all.
_REFERENCE = re.compile(
    r"(?P<escape>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_]\w*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\})?",
    re.ASCII,
)


def substitute(text: str, environ: Mapping[str, str], *, where: str, limit: int) -> str:
    """The text with its variables' values, which are not looked into for further variables.

    As in a shell, the default also stands in for an empty variable. `where` begins an error's message.

    Raises:
        ConfigError: a variable is not set, a reference is not well formed, or the result would have
            more than `limit` characters.
    """

    def value(match: re.Match[str]) -> str:
        return _value(match, environ, where)

    # Counted first: a file of references to one long value must not be built to be refused.
    grown = sum(len(value(match)) - len(match[0]) for match in _REFERENCE.finditer(text))
    if len(text) + grown > limit:
        raise ConfigError(f"{where}: the variables' values are too long")
    return _REFERENCE.sub(value, text)


def _value(match: re.Match[str], environ: Mapping[str, str], where: str) -> str:
    if match["escape"]:
        return "${"
    name, default = match["name"], match["default"]
    if name is None:
        raise ConfigError(
            f"{where}: a `${{` that is no variable",
            hint="write ${NAME} or ${NAME:-default}; $${ stands for a literal ${",
        )
    found = environ.get(name)
    if default is not None:
        return found or default
    if found is None:
        raise ConfigError(
            f"{where}: the environment variable {name} is not set",
            hint=f"set it, or write ${{{name}:-default}}",
        )
    return found
