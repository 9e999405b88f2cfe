"""Bytes made visible, in the notation of `cat -v`: a page of a stranger's text cannot steer a terminal.

Source: finger@ and who@ of ucspi-tcp, which show an answer through `cat -v`
"""


def visible(data: bytes) -> bytes:
    """Return data with each control byte as ^X, DEL as ^?, and M- before a byte above 127, shown without its top bit.

    Tab and newline stay as they are.  Pieces of a stream may be shown one by one.
    """
    for odd in set(data.translate(None, _PLAIN)):
        data = data.replace(bytes([odd]), _FORMS[odd])  # a form is plain: no later turn changes it
    return data


def _form(byte: int) -> bytes:
    if byte > 127:
        return b"M-" + _form(byte - 128)
    return bytes([byte]) if 32 <= byte < 127 else b"^" + bytes([byte ^ 64])


_PLAIN = b"\t\n" + bytes(range(32, 127))
_FORMS = [_form(byte) for byte in range(256)]


def visible_line(text: str) -> str:
    """Return a name with all that could steer a terminal made visible, newlines and tabs, too; ASCII.

    A lone surrogate is the byte that it stands for.
    """
    shown = visible(text.encode("utf-8", "surrogateescape"))
    return shown.replace(b"\n", b"^J").replace(b"\t", b"^I").decode("ascii")
