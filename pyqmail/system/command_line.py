"""A declared program, run in this process: its command line read, what it raises made a line and an exit code."""

import _signal  # the module without its enums
import os

from pyqmail.base.failure import Failure, Usage, is_lack, is_out_of_memory, reason, traceback_text
from pyqmail.base.options import Declaration


class Program(Declaration):
    """A program's declaration (base/options.py), and how it is run: PROGRAM.run(argv, work)."""

    def run(self, argv, work) -> int:
        """Parse argv, return work(call); a Failure becomes its line on descriptor 2 and its exit code.

        That memory or descriptors have run out is a line and 111.  Anything else that is raised is our own bug: a
        traceback on descriptor 2 and 111.
        """
        if "--help" in argv[1:2]:
            return self._help()
        try:
            return work(self._read(argv))
        except Usage as failure:
            if not self.quiet_usage:
                _complain(str(failure))
            return self.usage_code
        except Failure as failure:
            _complain(self.line(f"fatal: {failure}"))
            return failure.code
        except KeyboardInterrupt:
            _die_of_interrupt()
            return 0  # it was blocked
        except Exception as error:
            _complain(self._last_words(error))
            return 111

    def _read(self, argv):
        """Return the call; report what numbers were read as others."""
        call = self.parse(argv, os.environb)
        if self.tells_oddities and getattr(call, "verbosity", 1):  # 0 is -q
            for text in call.oddities:
                _complain(self.line(f"warning: {text}"))
        return call

    def _help(self):
        from pyqmail.base.manual import help_text

        os.write(1, help_text(self).encode())
        return 0

    def _last_words(self, error):
        if is_out_of_memory(error):
            return self.line("fatal: out of memory")
        if is_lack(error):
            return self.line(f"fatal: {reason(error)}")
        return traceback_text(error).removesuffix("\n")


def _die_of_interrupt():
    """Die of SIGINT without a word, as any program does."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.kill(os.getpid(), _signal.SIGINT)


def _complain(line):
    """Write a line to descriptor 2.  Where that is closed or full, there is only the exit code."""
    try:
        os.write(2, os.fsencode(line + "\n"))
    except OSError:
        pass
