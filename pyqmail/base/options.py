"""What a program accepts, declared once: option parsing, usage line, --help and the manual page come from it.

How a declaration becomes what a user meets:

    Flag, Value, Act    what may stand before the operands; field and default of each stand in the declaration alone
    Argument, Rest      the operands, in their order
    Declaration         all of a program; system/command_line.py makes of it what runs in a process
    parse()             the words of a command line -> a Call, which has one attribute for each field
    usage               the line of a wrong command line: the original's, or made of options and arguments
    base/manual.py      --help and the manual page: each option with its meaning and its default

So an option has one place: a default that is not in the declaration is nowhere, and what the code needs it reads from
the Call.  Nothing here knows the process: parse() is given the environment.

Parsing is the originals': scanning stops at the first word without `-`, at a lone `-` (kept) and after
`--` (removed).  Letters cluster; a value is the rest of its word or, if that is empty, the whole next word.
The last one wins.  Options that no original has are long: `--name`, `--name VALUE` or `--name=VALUE`.
A program that declares no letters takes `-x` as an operand, and `--*`, one that declares nothing `--` too: its original
has no option parsing, and `-x` is an account, a directory or an action.
"""

from pyqmail.base.failure import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
    from typing import Any


class _Option:
    """What letters and long names have in common.

    letter or long is None where there is none.  default: what the field is when no option sets it, None for nothing.
    Where several options set a field, at most one of them declares its default.
    """

    letter: "str | None"
    long: "str | None"
    meaning: str
    field: "str | None" = None
    metavar: "str | None" = None
    default: object = None
    unset: object = None  # the field's value where no option of it declares a default

    @property
    def takes_value(self) -> bool:
        return self.metavar is not None

    @property
    def long_form(self) -> str:
        """`--name` or `--name VALUE`."""
        return f"--{self.long} {self.metavar}" if self.takes_value else f"--{self.long}"

    @property
    def short_form(self) -> str:
        """`-l` or `-l VALUE`."""
        return f"-{self.letter} {self.metavar}" if self.takes_value else f"-{self.letter}"

    @property
    def form(self) -> str:
        """Both, as far as there are both, with a comma between."""
        forms = [self.short_form] if self.letter else []
        return ", ".join([*forms, self.long_form] if self.long else forms)

    @property
    def explanation(self) -> str:
        """What --help and the manual say: the meaning, and the default if there is one to be seen."""
        return with_default(self.meaning, self.default)


class Flag(_Option):
    """A letter (or a long name) without a value: sets `field` to `value`.  `field` None: it is accepted and ignored.

    is_default: that is what holds without it, too.  default: something else that no flag asks for.  A field that flags
    set to True is False without them.
    """

    def __init__(
        self,
        letter: "str | None",
        field: "str | None",
        meaning: str = "",
        value: object = True,
        long: "str | None" = None,
        is_default: bool = False,
        default: object = None,
    ) -> None:
        self.letter, self.field, self.meaning, self.value, self.long = letter, field, meaning, value, long
        self.is_default, self.default = is_default, value if is_default else default
        self.unset = False if value is True else None

    @property
    def explanation(self) -> str:
        return f"{self.meaning} (default)" if self.is_default else self.meaning


class Value(_Option):
    """A letter (or a long name) with a value: sets `field` to convert(text).

    convert takes the text as str (surrogateescape for foreign bytes) and raises ValueError for what it refuses.
    is_lenient: it makes a number of any text, as the original does; a number that is not the text's is reported.
    default: as convert would return it.
    """

    field: str

    def __init__(
        self,
        letter: "str | None",
        field: str,
        metavar: str,
        meaning: str = "",
        convert: "Callable[[str], object]" = str,
        long: "str | None" = None,
        is_lenient: bool = False,
        default: object = None,
    ) -> None:
        self.letter, self.field, self.metavar, self.meaning = letter, field, metavar, meaning
        self.convert, self.long, self.is_lenient, self.default = convert, long, is_lenient, default


class Act(_Option):
    """A letter that acts at its place in the line: calls act(call), or act(call, text) when metavar is given."""

    def __init__(
        self,
        letter: "str | None",
        act: "Callable[..., None]",
        meaning: str = "",
        metavar: "str | None" = None,
        long: "str | None" = None,
    ) -> None:
        self.letter, self.act, self.meaning, self.metavar, self.long = letter, act, meaning, metavar, long


class Argument:
    """One operand, set as `field`.  An optional one that is missing becomes `default`."""

    def __init__(
        self,
        field: str,
        meaning: str = "",
        optional: bool = False,
        default: "str | None" = None,
        metavar: "str | None" = None,
    ) -> None:
        self.field, self.meaning, self.optional, self.default = field, meaning, optional, default
        self.metavar = metavar or field

    @property
    def explanation(self) -> str:
        return with_default(self.meaning, self.default) if self.meaning else ""


class Rest:
    """All operands that are left, as a list: for example a program with its arguments.  `required`: at least one."""

    def __init__(self, field: str, meaning: str = "", required: bool = False, metavar: "str | None" = None) -> None:
        self.field, self.meaning, self.required = field, meaning, required
        self.metavar = metavar or field

    @property
    def explanation(self) -> str:
        return self.meaning


class Call:
    """One run of a program: every option's and operand's value under its field name.

    argv0 is the name it was called by, environ a mutable mapping of bytes to bytes (the process's own).  oddities are
    texts about numbers that were read as others than they say.
    """

    __slots__ = ("oddities", "__dict__")

    if TYPE_CHECKING:

        def __getattr__(self, field: str) -> Any: ...  # a declaration's fields have the types that it gives them

    def __init__(self, argv0: str, environ: "MutableMapping[bytes, bytes]", values: "Mapping[str, object]") -> None:
        self.argv0 = argv0
        self.oddities: list[str] = []
        self.environ = environ
        self.__dict__.update(values)


class Declaration:
    """A program, as it is declared.

    name        `pytcpserver`; also the name of its module, starter, manual page
    summary     one line
    original    `tcpserver`: the name at the head of usage, error and log lines; default: name
    usage       the original's usage text after `usage: `, where it differs from the generated one
    options     Flag, Value, Act
    arguments   Argument ..., at most one Rest, last
    fields      what else a Call has: field -> value to begin with, for what an Act or the work sets
    offers      functions that its module has for others, beside main: `preload` (programs/registry.py), `session` and
                `stage` (tcp/)
    exits       exit code, or "others" -> meaning
    controls    names of the control files it reads (base/controls.py)
    controls_count  from when on a change of one counts: control, or "others" -> words for the manual
    environment names of the variables it reads or sets (base/environment.py)
    usage_code  exit code of a wrong command line
    quiet_usage True if the original says nothing about a wrong command line
    tells_oddities  run() says what numbers were read as others; False: work() does
    notes       further sections of the manual: (heading, text), or (heading, [(term, meaning), ...])
    """

    def __init__(
        self,
        name: str,
        summary: str,
        original: "str | None" = None,
        usage: "str | None" = None,
        options: "Sequence[Flag | Value | Act]" = (),
        arguments: "Sequence[Argument | Rest]" = (),
        fields: "Mapping[str, object] | None" = None,
        offers: "Sequence[str]" = (),
        exits: "Mapping[int | str, str] | None" = None,
        controls: "Sequence[str]" = (),
        controls_count: "Mapping[str, str] | None" = None,
        environment: "Sequence[str]" = (),
        section: int = 8,
        usage_code: int = 100,
        quiet_usage: bool = False,
        tells_oddities: bool = True,
        notes: "Iterable[tuple[str, str | Sequence[tuple[str, str]]]]" = (),
        see: "Sequence[str]" = (),
    ) -> None:
        self.name, self.summary, self.label = name, summary, original or name
        self.options, self.arguments, self.fields, self.offers = options, arguments, fields or {}, offers
        self.exits, self.controls, self.environment = exits or {}, controls, environment
        self.controls_count = controls_count or {}
        self.section, self.usage_code, self.quiet_usage = section, usage_code, quiet_usage
        self.notes, self.see, self.tells_oddities = notes, see, tells_oddities
        self.defaults = {**_defaults(options), **self.fields}
        self.usage = usage or self._usage()

    def parse(self, argv: "Sequence[str]", environ: "MutableMapping[bytes, bytes]") -> Call:
        """Return the Call that argv means, in this environment.  Raises Usage, whose text is complete."""
        call = Call(argv[0] if argv else self.name, environ, self.defaults)
        words = list(argv[1:])
        if self.options:
            self._parse_options(call, words)
        self._parse_arguments(call, words)
        return call

    def wrong(self, complaint: "str | None" = None) -> Usage:
        """Return the Usage to raise: the complaint's line if any, then the usage line."""
        line = f"{self.label}: usage: {self.usage}"
        return Usage(f"{complaint}\n{line}" if complaint else line)

    def line(self, text: str) -> str:
        """Return a line of ours about text, without its newline: the program's label stands before it."""
        return f"{self.label}: {text}"

    def _parse_options(self, call: Call, words: "list[str]") -> None:
        """Take the options off the front of words."""
        letters = {option.letter: option for option in self.options if option.letter}
        mark = "-" if letters else "--"
        while words and words[0].startswith(mark) and words[0] != "-":
            if not letters and not words[0][2:3].isalpha() and words[0] != "--":
                return  # no name of an option
            word = words.pop(0)
            if word == "--":
                return
            if word.startswith("--"):
                self._parse_long(call, word[2:], words)
            else:
                self._parse_letters(call, letters, word[1:], words)

    def _parse_letters(
        self, call: Call, letters: "dict[str, Flag | Value | Act]", word: str, words: "list[str]"
    ) -> None:
        """Set what the letters of a word say; the last may have its value in words."""
        while word:
            letter, word = word[0], word[1:]
            option = letters.get(letter)
            if option is None:
                raise self._wrong_option(call, "illegal option", letter)
            if option.takes_value:
                self._set(call, option, word or self._next(call, letter, words))
                return
            self._set(call, option)

    def _parse_long(self, call: Call, word: str, words: "list[str]") -> None:
        long, equals, text = word.partition("=")
        option = next((o for o in self.options if o.long == long), None)
        if option is None or (equals and not option.takes_value):
            raise self._wrong_option(call, "illegal option", f"-{long}")
        if option.takes_value:
            self._set(call, option, text if equals else self._next(call, f"-{long}", words))
        else:
            self._set(call, option)

    def _next(self, call: Call, name: str, words: "list[str]") -> str:
        if not words:
            raise self._wrong_option(call, "option requires an argument", name)
        return words.pop(0)

    def _wrong_option(self, call: Call, trouble: str, name: str) -> Usage:
        return self.wrong(f"{call.argv0.rpartition('/')[2]}: {trouble} -- {name}")

    def _parse_arguments(self, call: Call, words: "list[str]") -> None:
        for argument in self.arguments:
            if isinstance(argument, Rest):
                if argument.required and not words:
                    raise self.wrong()
                setattr(call, argument.field, words)
                words = []
            elif words:
                setattr(call, argument.field, words.pop(0))
            elif argument.optional:
                setattr(call, argument.field, argument.default)
            else:
                raise self.wrong()

    def _set(self, call: Call, option: "Flag | Value | Act", text: str = "") -> None:
        """Do what an option says; text is its value, if it takes one."""
        try:
            if isinstance(option, Act):
                option.act(call, text) if option.takes_value else option.act(call)
            elif isinstance(option, Value):
                value = option.convert(text)
                setattr(call, option.field, value)
                if option.is_lenient and not _says(text, value):
                    name = f"-{option.letter}" if option.letter else f"--{option.long}"
                    call.oddities.append(f"{name} {_visible(text)} is read as {_number_text(value)}")
            elif option.field:
                setattr(call, option.field, option.value)
        except ValueError as problem:
            raise self.wrong(self.line(str(problem))) from None

    def _usage(self) -> str:
        flags = "".join(o.letter for o in self.options if o.letter and not o.takes_value)
        forms = [f"-{flags}"] if flags else []
        forms += [o.short_form for o in self.options if o.letter and o.takes_value]
        forms += [o.long_form for o in self.options if not o.letter]
        return " ".join([self.label, *(f"[ {form} ]" for form in forms), *map(_operand, self.arguments)])


def _operand(argument: "Argument | Rest") -> str:
    if isinstance(argument, Rest):
        return f"{argument.metavar} ..." if argument.required else f"[ {argument.metavar} ... ]"
    return f"[ {argument.metavar} ]" if argument.optional else argument.metavar


def with_default(meaning: str, default: object) -> str:
    """Return a meaning and its default, `default 40`; None, 0 and an empty text say no more than that there is none."""
    return f"{meaning}; default {_number_text(default)}" if default else meaning


def _defaults(options: "Iterable[_Option]") -> "dict[str, object]":
    """Return field -> value of a Call that no option has changed."""
    declared = {option.field: option.default for option in options if option.default is not None}
    return {option.field: declared.get(option.field, option.unset) for option in options if option.field}


def _says(text: str, value: object) -> bool:
    """Return whether a text says the number, or pair of numbers A+B, that was made of it."""
    return "+".join(word.lstrip("0") or word and "0" for word in text.split("+")) in (
        _number_text(value),
        _number_text(value).removesuffix("+0"),
    )


def _number_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _visible(text: str) -> str:
    return "".join(c if "!" <= c <= "~" else "?" for c in text[:64])
