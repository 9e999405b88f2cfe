"""How the filters move bytes: from descriptor 0 to 1, or between the connection and a program.

A function changes each piece; it is called with b"" at the end where that is stated.
"""

import _signal as signal  # the module without its enums: a filter is started once for each connection
import os
import select

from pyqmail.base.failure import Temporary
from pyqmail.system.descriptors import move, open_standard_descriptors, write_all
from pyqmail.system.processes import fork

_PIECE_BYTES = 65536


def filter_input(change, end=lambda: b"") -> int:
    """Copy descriptor 0 to 1 through change(piece), then write what end() returns.  Returns the exit code.

    Each piece is written before the next is read.  111 if that fails, without a line.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        while piece := os.read(0, _PIECE_BYTES):
            write_all(1, change(piece))
        write_all(1, end())
    except OSError:
        return 111
    return 0


def stand_between(inward, outward) -> None:
    """Put a forked child between descriptors 0 and 1 and the program that this process goes on as.

    The child copies 0 to the program's input through inward(piece), and the program's output to 1 through
    outward(piece).  Each is called once more, with b"", at its end; what that returns is not written.  The end of the
    input closes the program's input; what the program does not take is lost.  The end of the output, or a write to 1
    that fails, ends the child.  Raises Temporary.
    """
    open_standard_descriptors()
    try:
        program_in, to_program = os.pipe()
        from_program, program_out = os.pipe()
    except OSError as error:
        raise Temporary("unable to create pipe", error) from None

    def copy():
        os.close(program_in)
        os.close(program_out)
        return _copy(to_program, from_program, inward, outward)

    try:
        fork(copy)
    except OSError as error:
        raise Temporary("unable to fork", error) from None
    os.close(to_program)
    os.close(from_program)
    try:
        move(program_in, 0)
        move(program_out, 1)
    except OSError as error:
        raise Temporary("unable to move descriptors", error) from None


def _copy(to_program, from_program, inward, outward):
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # a program that waits for us to read its output must not find us waiting for it to read its input
    os.set_blocking(to_program, False)
    waiting_for = select.poll()
    waiting_for.register(0, select.POLLIN)
    waiting_for.register(from_program, select.POLLIN)
    untaken = b""
    try:
        while True:
            ready = {fd for fd, _ in waiting_for.poll()}
            if 0 in ready:
                piece = _read(0)
                untaken = inward(piece)
                waiting_for.unregister(0)
                if piece:
                    waiting_for.register(to_program, select.POLLOUT)
                    ready.add(to_program)
                else:
                    os.close(to_program)
            if to_program in ready and untaken:
                untaken = untaken[_write_some(to_program, untaken) :]
                if not untaken:
                    waiting_for.unregister(to_program)
                    waiting_for.register(0, select.POLLIN)
            if from_program in ready:
                piece = _read(from_program)
                passed_on = outward(piece)
                if not piece:
                    return 0
                write_all(1, passed_on)
    except OSError:
        return 0


def _read(fd):
    try:
        return os.read(fd, _PIECE_BYTES)
    except OSError:
        return b""


def _write_some(fd, data):
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except BrokenPipeError:  # a program that reads no more may still write
        return len(data)
