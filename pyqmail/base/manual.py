"""Manual pages and --help, rendered from a program's declaration and its module's docstring.

    section         from
    NAME            name and summary
    SYNOPSIS        usage under our own name, with the options that the original's usage line lacks
    DESCRIPTION     the docstring of the program's module
    OPTIONS         each option's form, meaning and default (base/options.py)
    ARGUMENTS       the operands that have a meaning
    CONTROL FILES   the names in controls: meaning and default of each (base/controls.py)
    ENVIRONMENT     the names in environment: meaning and default of each (base/environment.py)
    EXIT CODES      exits

notes are sections of their own before CONTROL FILES.  --help is SYNOPSIS, summary, OPTIONS and ARGUMENTS.  A page is
written by nobody: it changes when its declaration does.
"""

import textwrap

from pyqmail.base.controls import CONTROLS, ME, Control
from pyqmail.base.environment import DEFAULTS, VARIABLES
from pyqmail.base.options import with_default

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyqmail.base.options import Act, Declaration, Flag, Value


def help_text(program: "Declaration") -> str:
    """Return what --help prints."""
    lines = ["usage: " + "\n       ".join(_synopsis(program)), "", program.summary]
    terms = [(option.form, option.explanation) for option in program.options]
    terms += [(argument.metavar, argument.explanation) for argument in program.arguments if argument.meaning]
    lines += [f"  {term:22} {meaning}" for term, meaning in terms]
    return "\n".join(lines) + "\n"


def page(program: "Declaration", description: str) -> str:
    """Return the manual page as man(7) source.  description is the module's docstring."""
    out = [f'.TH {program.name} {program.section} "" pyqmail', ".nh", ".ad l"]  # names must not be broken or spread
    out += [".SH NAME", f"{program.name} \\- {running_text(program.summary)}"]
    out += [".SH SYNOPSIS", "\n.br\n".join(f".B {running_text(line)}" for line in _synopsis(program))]
    out += [".SH DESCRIPTION", *paragraphs(description)]
    if program.label != program.name:
        out += [".PP", f"Takes the place of {running_text(program.label)}, whose name its messages carry."]
    out += _list("OPTIONS", ((option.form, option.explanation) for option in program.options))
    arguments = [argument for argument in program.arguments if argument.meaning]
    out += _list("ARGUMENTS", ((argument.metavar, argument.explanation) for argument in arguments), ".I")
    out += _notes(program)
    controls = [CONTROLS[name] for name in program.controls]
    out += _list("CONTROL FILES", ((c.name, f"{c.meaning}.  {default_of(c)}") for c in controls), ".I")
    out += _list(
        "ENVIRONMENT", ((name, with_default(VARIABLES[name], DEFAULTS.get(name))) for name in program.environment)
    )
    out += _list("EXIT CODES", program.exits.items())
    return "\n".join(out + _see_also(program)) + "\n"


def _notes(program: "Declaration") -> list[str]:
    out = []
    for heading, content in program.notes:
        if isinstance(content, str):
            out += [f".SH {running_text(heading.upper())}", *paragraphs(content)]
        else:
            out += _list(heading.upper(), content)
    return out


def _see_also(program: "Declaration") -> list[str]:
    see = list(program.see)
    if program.controls:
        see.append("pyqmail-control(5)")
    if program.label != program.name:
        see.append("pyqmail-differences(7)")
    return [".SH SEE ALSO", running_text(", ".join(see))] if see else []


def _list(heading: str, pairs: "Iterable[tuple[str | int, str]]", font: str = ".B") -> list[str]:
    """Return a section of (term, meaning) pairs; nothing if there are none."""
    out = term_list(pairs, font)
    return [f".SH {running_text(heading)}", *out] if out else []


def term_list(pairs: "Iterable[tuple[str | int, str]]", font: str = ".B") -> list[str]:
    """Return the lines of (term, meaning) pairs."""
    return [line for term, text in pairs for line in (".TP", f"{font} {running_text(str(term))}", running_text(text))]


def _synopsis(program: "Declaration") -> list[str]:
    """Return the usage lines under our own name, with the options that the original's usage leaves out."""
    lines = []
    for usage in program.usage.split(f" | {program.label} "):
        rest = usage.removeprefix(program.label).strip()
        lines.append(" ".join([program.name, *_unsaid(program.options, rest.split()), rest]).rstrip())
    return lines


def _unsaid(options: "Sequence[Flag | Value | Act]", words: list[str]) -> list[str]:
    """Return the forms of the options that are not among the words of a usage line, flags of one letter together."""
    short = [word.strip("[]") for word in words if word.startswith(("-", "[-")) and not word.startswith("--")]
    unsaid = [option for option in options if option.letter and option.letter not in "".join(short)]
    flags = "".join(option.letter for option in unsaid if option.letter and not option.takes_value)
    values = [f"[ {option.short_form} ]" for option in unsaid if option.takes_value]
    long = [
        f"[ {option.long_form} ]"
        for option in options
        if not option.letter and option.long_form.split()[0] not in words
    ]
    return long + ([f"[ -{flags} ]"] if flags else []) + values


def default_of(control: Control) -> str:
    default = control.default
    if isinstance(default, tuple):
        return f"Default: control/me, otherwise {default[1].decode()}."
    if default == ME:
        return "Default: control/me."
    if default is None or default == [] or default == {}:
        return "Default: none."
    return f"Default: {default.decode() if isinstance(default, bytes) else default}."


def paragraphs(text: str) -> list[str]:
    """Return paragraphs as man(7) source: what is indented stays as it is, what stands in backquotes is bold."""
    out = []
    for paragraph in textwrap.dedent(text).strip("\n").rstrip().split("\n\n"):
        if paragraph.startswith("    "):
            out += [".PP", ".nf", *_guarded(_escaped(paragraph)).split("\n"), ".fi"]
        else:
            out += [".PP", *running_text(paragraph).split("\n")]
    return out


def running_text(text: str) -> str:
    """Return running text: `words` become bold."""
    parts = [_escaped(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # a lone backquote is a backquote
        return _guarded(_escaped(text))
    return _guarded("".join(rf"\fB{part}\fR" if at % 2 else part for at, part in enumerate(parts)))


def _escaped(text: str) -> str:
    for mark, escape in _ESCAPES:
        text = text.replace(mark, escape)
    return text


def _guarded(source: str) -> str:
    """Return source in which no line is taken for a request."""
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in source.split("\n"))


# the backslash first; the others would come out as typographic marks, which cannot be typed
_ESCAPES = (("\\", "\\e"), ("-", "\\-"), ("~", "\\(ti"), ("^", "\\(ha"), ("`", "\\(ga"))
