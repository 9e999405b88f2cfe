"""The life of svscan: a pass every five seconds, for ever or until a signal says to stop."""

import gc
import os
import signal

from pyqmail.supervise.control import is_supervised
from pyqmail.supervise.scanner import PARTS, SECONDS, Scanner
from pyqmail.supervise.starting import DescriptorLimit, Starter, inherited_descriptors
from pyqmail.system.loop import Loop, Promise, TimedOut

STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def keep_scanning(main, program: str, is_stoppable: bool) -> None:
    """Scan the working directory.  Returns only if stoppable, when everything is down.

    main: of our own supervisor's module, forked; None: program is executed.
    """
    kept = inherited_descriptors()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    loop, limit = Loop(), DescriptorLimit()
    starter = Starter(main, program, loop, limit, kept, is_apart=is_stoppable)
    scanner = Scanner(starter, limit, is_stoppable)
    gc.freeze()  # what is imported by now is shared with every supervisor
    if is_stoppable:
        _scan_until_told(loop, scanner)
    else:
        _scan_for_ever(loop, scanner)


def _scan_for_ever(loop, scanner):
    def scan():
        scanner.scan()
        loop.after(SECONDS, scan)

    loop.soon(scan)
    loop.run()


def _scan_until_told(loop, scanner):
    from pyqmail.system.orphans import adopt_orphans

    adopt_orphans()
    told = Promise()
    for number in STOPPING_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            loop.on_signal(number, told.keep)
    life = loop.start(_live(loop, scanner, told))
    life.promise.then(lambda _: loop.stop())
    loop.run()
    if life.promise.error is not None:
        raise life.promise.error


async def _live(loop, scanner, told):
    from pyqmail.supervise.stopping import Stopping
    from pyqmail.system.orphans import children

    scanner.look()
    if any(is_supervised(os.fsdecode(slot.folder(part))) for slot in scanner.slots.values() for part in PARTS):
        await Stopping(loop, scanner, children).run()
        scanner.close()
    while not told.done:
        scanner.scan()
        try:
            await told.within(loop, SECONDS)
        except TimedOut:
            pass
    await Stopping(loop, scanner, children).run()
