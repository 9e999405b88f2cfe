"""Pictures of tables, drawn by matplotlib, which need not be installed."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INCHES_A_BAR, _INCHES_MARGIN, _INCHES_WIDE = 0.3, 1.5, 10


def stacked_bars(path: str, title: str, names: "Sequence[str]", parts: "Mapping[str, Sequence[int]]") -> None:
    """Draw a bar for each name, the first on top, of parts one behind the other: part -> a length for each name.

    The end of path says the format: .png or .svg.  Raises ImportError without matplotlib, OSError.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    matplotlib.rcParams["svg.hashsalt"] = "pyqmail"  # the same table gives the same file
    figure = Figure(figsize=(_INCHES_WIDE, _INCHES_MARGIN + _INCHES_A_BAR * max(1, len(names))), layout="constrained")
    axes = figure.add_subplot()
    places, ends = range(len(names)), [0] * len(names)
    for part, lengths in parts.items():
        axes.barh(places, lengths, left=ends, label=part)
        ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    axes.set_yticks(places, labels=[name.replace("$", r"\$") for name in names])
    axes.invert_yaxis()
    axes.set_title(title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=len(parts))  # beside the bars: it covers none
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
