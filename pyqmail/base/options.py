"""What a program accepts, declared once: option parsing, usage line, --help and the manual page come from it.

Parsing is the originals': scanning stops at the first word without `-`, at a lone `-` (kept) and after
`--` (removed).  Letters cluster; a value is the rest of its word or, if that is empty, the whole next word.
The last one wins.  Options that no original has are long: `--name`, `--name VALUE` or `--name=VALUE`.
A program that declares no letters takes `-x` as an operand, and `--*`, one that declares nothing `--` too: its original
has no option parsing, and `-x` is an account, a directory or an action.
"""

import _signal  # the module without its enums
import os

from pyqmail.base.failure import Failure, Usage, is_lack, is_out_of_memory, reason, traceback_text
from pyqmail.base.initial import initial_environment


def _forget_coerced_locale():
    """Undo what the interpreter does to LC_CTYPE where the locale is C: the programs we run must not see it."""
    if b"LC_CTYPE" in os.environb:
        try:
            given = dict(entry.split(b"=", 1) for entry in initial_environment().split(b"\0") if b"=" in entry)
        except OSError:
            return
        if b"LC_CTYPE" not in given:
            del os.environb[b"LC_CTYPE"]
        elif os.environb[b"LC_CTYPE"] != given[b"LC_CTYPE"]:
            os.environb[b"LC_CTYPE"] = given[b"LC_CTYPE"]


_forget_coerced_locale()  # once for each process: later on, LC_CTYPE is somebody's wish


class _Option:
    """What letters and long names have in common."""

    metavar = None

    @property
    def takes_value(self):
        return self.metavar is not None

    @property
    def long_form(self):
        """`--name` or `--name VALUE`."""
        return f"--{self.long} {self.metavar}" if self.takes_value else f"--{self.long}"


class Flag(_Option):
    """A letter (or a long name) without a value: sets `field` to `value`.  `field` None: it is accepted and ignored."""

    def __init__(self, letter, field, meaning="", value=True, long=None):
        self.letter, self.field, self.meaning, self.value, self.long = letter, field, meaning, value, long


class Value(_Option):
    """A letter (or a long name) with a value: sets `field` to convert(text).

    convert takes the text as str (surrogateescape for foreign bytes) and raises ValueError for what it refuses.
    is_lenient: it makes a number of any text, as the original does; a number that is not the text's is reported.
    """

    def __init__(self, letter, field, metavar, meaning="", convert=str, long=None, is_lenient=False):
        self.letter, self.field, self.metavar, self.meaning = letter, field, metavar, meaning
        self.convert, self.long, self.is_lenient = convert, long, is_lenient


class Act(_Option):
    """A letter that acts at its place in the line: calls act(call), or act(call, text) when metavar is given."""

    def __init__(self, letter, act, meaning="", metavar=None, long=None):
        self.letter, self.act, self.meaning, self.metavar, self.long = letter, act, meaning, metavar, long


class Argument:
    """One operand, set as `field`.  An optional one that is missing becomes `default`."""

    def __init__(self, field, meaning="", optional=False, default=None, metavar=None):
        self.field, self.meaning, self.optional, self.default = field, meaning, optional, default
        self.metavar = metavar or field


class Rest:
    """All operands that are left, as a list: a program with its arguments, say.  `required`: at least one."""

    def __init__(self, field, meaning="", required=False, metavar=None):
        self.field, self.meaning, self.required = field, meaning, required
        self.metavar = metavar or field


class Call:
    """One run of a program: every option's and operand's value under its field name.

    argv0 is the name it was called by, environ a mutable mapping of bytes to bytes (the process's own).  oddities are
    texts about numbers that were read as others than they say.
    """

    __slots__ = ("oddities", "__dict__")

    def __init__(self, argv0, environ, values):
        self.argv0, self.oddities = argv0, []
        self.environ = environ
        self.__dict__.update(values)


class Program:
    """A program's declaration.

    name        `pytcpserver`; also the name of its module, starter, manual page
    summary     one line
    original    `tcpserver`: the name at the head of usage, error and log lines; default: name
    usage       the original's usage text after `usage: `, where it differs from the generated one
    options     Flag, Value, Act;  defaults: field -> value when no option sets it
    arguments   Argument ..., at most one Rest, last
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
        name,
        summary,
        original=None,
        usage=None,
        options=(),
        arguments=(),
        defaults=None,
        exits=None,
        controls=(),
        controls_count=None,
        environment=(),
        section=8,
        usage_code=100,
        quiet_usage=False,
        tells_oddities=True,
        notes=(),
        see=(),
    ):
        self.name, self.summary, self.label = name, summary, original or name
        self.options, self.arguments, self.defaults = options, arguments, defaults or {}
        self.exits, self.controls, self.environment = exits or {}, controls, environment
        self.controls_count = controls_count or {}
        self.section, self.usage_code, self.quiet_usage = section, usage_code, quiet_usage
        self.notes, self.see, self.tells_oddities = notes, see, tells_oddities
        self.usage = usage or self._usage()

    def run(self, argv, work):
        """Parse argv, return work(call); a Failure becomes its line on descriptor 2 and its exit code.

        That memory or descriptors have run out is a line and 111.  Anything else that is raised is our own bug: a
        traceback on descriptor 2 and 111.
        """
        if "--help" in argv[1:2]:
            from pyqmail.base.manual import help_text

            os.write(1, help_text(self).encode())
            return 0
        try:
            call = self.parse(argv)
            if self.tells_oddities and getattr(call, "verbosity", 1):  # 0 is -q
                for text in call.oddities:
                    _complain(f"{self.label}: warning: {text}\n")
            return work(call)
        except Usage as failure:
            if not self.quiet_usage:
                _complain(f"{failure}\n")
            return self.usage_code
        except Failure as failure:
            _complain(f"{self.label}: fatal: {failure}\n")
            return failure.code
        except KeyboardInterrupt:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # die of it without a word, as any program does
            os.kill(os.getpid(), _signal.SIGINT)
        except Exception as error:
            _complain(self._last_words(error))
            return 111

    def _last_words(self, error):
        if is_out_of_memory(error):
            return f"{self.label}: fatal: out of memory\n"
        if is_lack(error):
            return f"{self.label}: fatal: {reason(error)}\n"
        return traceback_text(error)

    def parse(self, argv, environ=None):
        """Return the Call that argv means.  Raises Usage, whose text is complete."""
        call = Call(argv[0] if argv else self.name, os.environb if environ is None else environ, self.defaults)
        rest = self._parse_options(call, list(argv[1:]))
        for argument in self.arguments:
            if isinstance(argument, Rest):
                if argument.required and not rest:
                    raise self.wrong()
                setattr(call, argument.field, rest)
                rest = []
            elif rest:
                setattr(call, argument.field, rest.pop(0))
            elif argument.optional:
                setattr(call, argument.field, argument.default)
            else:
                raise self.wrong()
        return call

    def wrong(self, complaint=None):
        """Return the Usage to raise: the complaint's line if any, then the usage line."""
        line = f"{self.label}: usage: {self.usage}"
        return Usage(f"{complaint}\n{line}" if complaint else line)

    def _parse_options(self, call, words):
        if not self.options:
            return words
        letters = {option.letter: option for option in self.options if option.letter}
        name = call.argv0.rpartition("/")[2]
        mark = "-" if letters else "--"
        while words and words[0].startswith(mark) and words[0] != "-":
            if not letters and not words[0][2:3].isalpha() and words[0] != "--":
                break  # no name of an option
            word = words.pop(0)
            if word == "--":
                break
            if word.startswith("--"):
                self._parse_long(call, name, word[2:], words)
                continue
            at = 1
            while at < len(word):
                letter, at = word[at], at + 1
                option = letters.get(letter)
                if option is None:
                    raise self.wrong(f"{name}: illegal option -- {letter}")
                if not option.takes_value:
                    self._set(call, option)
                    continue
                if at < len(word):
                    text = word[at:]
                elif words:
                    text = words.pop(0)
                else:
                    raise self.wrong(f"{name}: option requires an argument -- {letter}")
                self._set(call, option, text)
                break
        return words

    def _parse_long(self, call, name, word, words):
        long, equals, text = word.partition("=")
        option = next((o for o in self.options if o.long == long), None)
        if option is None or (equals and not option.takes_value):
            raise self.wrong(f"{name}: illegal option -- -{long}")
        if not option.takes_value:
            self._set(call, option)
            return
        if not equals:
            if not words:
                raise self.wrong(f"{name}: option requires an argument -- -{long}")
            text = words.pop(0)
        self._set(call, option, text)

    def _set(self, call, option, text=None):
        try:
            if isinstance(option, Act):
                option.act(call) if text is None else option.act(call, text)
            elif isinstance(option, Value):
                value = option.convert(text)
                setattr(call, option.field, value)
                if option.is_lenient and not _says(text, value):
                    name, shown = f"-{option.letter or '-' + option.long}", _number_text(value)
                    call.oddities.append(f"{name} {_visible(text)} is read as {shown}")
            elif option.field:
                setattr(call, option.field, option.value)
        except ValueError as problem:
            raise self.wrong(f"{self.label}: {problem}") from None

    def _usage(self):
        words = [self.label]
        flags = "".join(o.letter for o in self.options if o.letter and not o.takes_value)
        if flags:
            words.append(f"[ -{flags} ]")
        words += [f"[ -{o.letter} {o.metavar} ]" for o in self.options if o.letter and o.takes_value]
        words += [f"[ {o.long_form} ]" for o in self.options if not o.letter]
        for argument in self.arguments:
            if isinstance(argument, Rest):
                words.append(f"{argument.metavar} ..." if argument.required else f"[ {argument.metavar} ... ]")
            else:
                words.append(f"[ {argument.metavar} ]" if argument.optional else argument.metavar)
        return " ".join(words)


def _says(text, value):
    """Return whether a text says the number, or pair of numbers A+B, that was made of it."""
    return "+".join(word.lstrip("0") or word and "0" for word in text.split("+")) in (
        _number_text(value),
        _number_text(value).removesuffix("+0"),
    )


def _number_text(value):
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _visible(text):
    return "".join(c if "!" <= c <= "~" else "?" for c in text[:64])


def _complain(text):
    """Write to descriptor 2.  Where that is closed or full, the exit code alone tells."""
    try:
        os.write(2, os.fsencode(text))
    except OSError:
        pass
