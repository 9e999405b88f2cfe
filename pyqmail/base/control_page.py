"""man/pyqmail-control.5: every control file, rendered from its declaration and from the programs that read it."""

from pyqmail.base import controls
from pyqmail.base.controls import CDB, CONTROLS, INTEGER, LIMIT, LINE, LINES, MAP, RATE, RULES, SCRIPT_FILES
from pyqmail.base.manual import default_of, paragraphs, running_text, term_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyqmail.base.controls import Control
    from pyqmail.base.options import Declaration

NAME = "pyqmail-control.5"
_FORMS = {LINE: "One line.", LINES: "Lines.", MAP: "Map.", CDB: "A cdb file.", RULES: "Rules."}
_HEAD = """\
.TH pyqmail-control 5 "" pyqmail
.nh
.ad l
.SH NAME
pyqmail\\-control \\- the control files: form, unit, default and meaning of each
.SH DESCRIPTION"""


def page(programs: "Sequence[Declaration]") -> str:
    """Return the page as man(7) source.  programs are the declarations of all programs."""
    out = [_HEAD, *paragraphs(controls.__doc__ or ""), ".SH FILES"]
    for control in CONTROLS.values():
        out += _entry(control, [program for program in programs if control.name in program.controls])
    out += [".SH FILES OF THE SERVICES' SCRIPTS", *paragraphs("The script of a service names these.")]
    out += term_list((name, _script_file(*facts)) for name, facts in SCRIPT_FILES.items())
    readers = [f"{program.name}({program.section})" for program in programs if program.controls]
    readers += ["pystart(8)", "pytcprules(8)", "pyqmail-differences(7)"]
    out += [".SH SEE ALSO", running_text(", ".join(readers))]
    return "\n".join(out) + "\n"


def _entry(control: "Control", readers: "Sequence[Declaration]") -> "Iterator[str]":
    meaning = f"{control.meaning}.  {'' if control.is_original else 'The original has no such file.'}".rstrip()
    form = _form(control)
    yield from (".TP", f".B {running_text(control.name)}", running_text(meaning[0].upper() + meaning[1:]))
    yield from (".br", running_text(f"{form}  {default_of(control)}"))
    for program in readers:
        since = program.controls_count.get(control.name) or program.controls_count["others"]
        yield from (".br", running_text(f"{program.name}({program.section}): a change counts {since}."))
    if control.example is not None:
        shown = [running_text(f"`{line}`") for line in control.example.split("\n")]
        yield from (".br", *(["Example:", *shown] if len(shown) == 1 else ["Example:\n.br", "\n.br\n".join(shown)]))


def _form(control: "Control") -> str:
    if control.mode == INTEGER:
        return f"A number of {control.unit}."
    if control.mode == RATE:
        return f"A rate of {control.unit}."
    return f"A limit: {control.unit}." if control.mode == LIMIT else _FORMS[control.mode]


def _script_file(meaning: str, service: str, since: str, example: str | None) -> str:
    text = f"{meaning[0].upper()}{meaning[1:]}.  `services/{service}/run` names it; a change counts {since}."
    return text + (f"  Example: `{example}`" if example else "")
