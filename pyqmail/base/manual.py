"""Manual pages and --help, rendered from a program's declaration and its module's docstring."""

import sys
import textwrap

from pyqmail.base.controls import CONTROLS
from pyqmail.base.environment import VARIABLES
from pyqmail.base.options import long_form


def help_text(program) -> str:
    """Return what --help prints."""
    lines = [f"usage: {program.usage}", "", program.summary]
    for option in program.options:
        lines.append(f"  {_option_form(option):22} {option.meaning}")
    for argument in program.arguments:
        lines.append(f"  {argument.metavar:22} {argument.meaning}")
    return "\n".join(lines) + "\n"


def page(program, description: str) -> str:
    """Return the manual page as man(7) source.  description is the module's docstring."""
    out = [f'.TH {program.name} {program.section} "" pyqmail', ".SH NAME", f"{program.name} \\- {_text(program.summary)}"]
    out += [".SH SYNOPSIS", f".B {_text(_synopsis(program))}"]
    out += [".SH DESCRIPTION", *_paragraphs(description)]
    if program.label != program.name:
        out += [".PP", f"Takes the place of {_text(program.label)}, whose name its messages carry."]
    if program.options:
        out.append(".SH OPTIONS")
        for option in program.options:
            out += [".TP", f".B {_text(_option_form(option))}", _text(option.meaning)]
    if any(argument.meaning for argument in program.arguments):
        out.append(".SH ARGUMENTS")
        for argument in program.arguments:
            out += [".TP", f".I {_text(argument.metavar)}", _text(argument.meaning)]
    for heading, text in program.notes:
        out += [f".SH {heading.upper()}", *_paragraphs(text)]
    if program.controls:
        out.append(".SH CONTROL FILES")
        for name in program.controls:
            control = CONTROLS[name]
            out += [".TP", f".I {_text(name)}", _text(f"{control.meaning}.  {_default(control)}")]
    if program.environment:
        out.append(".SH ENVIRONMENT")
        for name in program.environment:
            out += [".TP", f".B {name}", _text(VARIABLES[name])]
    if program.exits:
        out.append(".SH EXIT CODES")
        for code, meaning in program.exits.items():
            out += [".TP", f".B {code}", _text(meaning)]
    if program.see:
        out += [".SH SEE ALSO", _text(", ".join(program.see))]
    return "\n".join(out) + "\n"


def page_of(program) -> str:
    """Return the manual page of a declared program, its description taken from the module that declares it."""
    module = sys.modules[f"pyqmail.programs.{program.name.replace('-', '_').replace('@', '_at')}"]
    return page(program, module.__doc__ or "")


def _synopsis(program) -> str:
    words = program.usage.split(" ")
    return " ".join([program.name, *words[1:]])


def _option_form(option) -> str:
    if not option.letter:
        return long_form(option)
    metavar = getattr(option, "metavar", None)
    short = f"-{option.letter} {metavar}" if metavar else f"-{option.letter}"
    return f"{short}, {long_form(option)}" if option.long else short


def _default(control) -> str:
    default = control.default
    if isinstance(default, tuple):
        return f"Default: control/me, else {default[1].decode()}."
    if default == "me":
        return "Default: control/me."
    if default is None or default == [] or default == {}:
        return "Default: none."
    return f"Default: {default.decode() if isinstance(default, bytes) else default}."


def _paragraphs(text: str) -> list[str]:
    out = []
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        literal = paragraph.startswith("    ")
        out += [".PP", ".nf" if literal else "", *(_text(line) for line in paragraph.split("\n")), ".fi" if literal else ""]
    return [line for line in out if line]


def _text(line: str) -> str:
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + line if line.startswith((".", "'")) else line
