"""Manual pages and --help, rendered from a program's declaration and its module's docstring."""

import sys
import textwrap

from pyqmail.base.controls import CONTROLS
from pyqmail.base.environment import VARIABLES


def help_text(program) -> str:
    """Return what --help prints."""
    lines = ["usage: " + "\n       ".join(_synopsis(program)), "", program.summary]
    terms = [(_option_form(option), option.meaning) for option in program.options]
    terms += [(argument.metavar, argument.meaning) for argument in program.arguments if argument.meaning]
    lines += [f"  {term:22} {meaning}" for term, meaning in terms]
    return "\n".join(lines) + "\n"


def page(program, description: str) -> str:
    """Return the manual page as man(7) source.  description is the module's docstring."""
    out = [f'.TH {program.name} {program.section} "" pyqmail', ".nh", ".ad l"]  # names must not be broken or spread
    out += [".SH NAME", f"{program.name} \\- {running_text(program.summary)}"]
    out += [".SH SYNOPSIS", "\n.br\n".join(f".B {running_text(line)}" for line in _synopsis(program))]
    out += [".SH DESCRIPTION", *paragraphs(description)]
    if program.label != program.name:
        out += [".PP", f"Takes the place of {running_text(program.label)}, whose name its messages carry."]
    out += _list("OPTIONS", ((_option_form(option), option.meaning) for option in program.options))
    arguments = [argument for argument in program.arguments if argument.meaning]
    out += _list("ARGUMENTS", ((argument.metavar, argument.meaning) for argument in arguments), ".I")
    for heading, content in program.notes:
        if isinstance(content, str):
            out += [f".SH {running_text(heading.upper())}", *paragraphs(content)]
        else:
            out += _list(heading.upper(), content)
    controls = [CONTROLS[name] for name in program.controls]
    out += _list("CONTROL FILES", ((c.name, f"{c.meaning}.  {default_of(c)}") for c in controls), ".I")
    out += _list("ENVIRONMENT", ((name, VARIABLES[name]) for name in program.environment))
    out += _list("EXIT CODES", program.exits.items())
    see = list(program.see)
    if program.controls:
        see.append("pyqmail-control(5)")
    if program.label != program.name:
        see.append("pyqmail-differences(7)")
    if see:
        out += [".SH SEE ALSO", running_text(", ".join(see))]
    return "\n".join(out) + "\n"


def page_of(program) -> str:
    """Return the manual page of a declared program, its description taken from the module that declares it."""
    module = sys.modules[f"pyqmail.programs.{program.name.replace('-', '_').replace('@', '_at')}"]
    return page(program, module.__doc__ or "")


def _list(heading, pairs, font=".B"):
    """Return a section of (term, meaning) pairs; nothing if there are none."""
    out = term_list(pairs, font)
    return [f".SH {running_text(heading)}", *out] if out else []


def term_list(pairs, font=".B"):
    """Return the lines of (term, meaning) pairs."""
    return [line for term, text in pairs for line in (".TP", f"{font} {running_text(str(term))}", running_text(text))]


def _synopsis(program):
    """Return the usage lines under our own name, with the options that the original's usage leaves out."""
    lines = []
    for usage in program.usage.split(f" | {program.label} "):
        rest = usage.removeprefix(program.label).strip()
        lines.append(" ".join([program.name, *_unsaid(program.options, rest.split()), rest]).rstrip())
    return lines


def _unsaid(options, words):
    """Return the forms of the options that are not among the words of a usage line, flags of one letter together."""
    short = [word.strip("[]") for word in words if word.startswith(("-", "[-")) and not word.startswith("--")]
    unsaid = [option for option in options if option.letter and option.letter not in "".join(short)]
    flags = "".join(option.letter for option in unsaid if not option.takes_value)
    values = [f"[ -{option.letter} {option.metavar} ]" for option in unsaid if option.takes_value]
    long = [
        f"[ {option.long_form} ]"
        for option in options
        if not option.letter and option.long_form.split()[0] not in words
    ]
    return long + ([f"[ -{flags} ]"] if flags else []) + values


def _option_form(option) -> str:
    if not option.letter:
        return option.long_form
    metavar = getattr(option, "metavar", None)
    short = f"-{option.letter} {metavar}" if metavar else f"-{option.letter}"
    return f"{short}, {option.long_form}" if option.long else short


def default_of(control) -> str:
    default = control.default
    if isinstance(default, tuple):
        return f"Default: control/me, otherwise {default[1].decode()}."
    if default == "me":
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
