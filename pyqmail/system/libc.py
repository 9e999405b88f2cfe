"""Calling what the C library has and the standard library has not."""

import errno
import os


class CLibrary:
    """Loaded when it is made: that costs 2 ms and 0.4 MB.  Raises OSError (ENOSYS) in an interpreter without ctypes."""

    def __init__(self) -> None:
        try:
            import ctypes
        except ImportError:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
        self._library, self._errno = ctypes.CDLL(None, use_errno=True), ctypes.get_errno

    def call(self, name: str, *arguments) -> int:
        """Return what a function returned.  Raises OSError: that is negative, or there is no such function (ENOSYS)."""
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
        result = function(*arguments)
        if result < 0:
            number = self._errno()
            raise OSError(number, os.strerror(number))
        return result


def prctl(option: int, value: int | bytes) -> None:
    """Call prctl(2).  For 0.5 ms and 0.1 MB, where the interpreter is built as usual.  Raises OSError."""
    if _function("prctl")(option, value, 0, 0, 0) < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def overwrite(place: int, data: bytes) -> None:
    """Put data into our own memory at an address that is known to be right.  Raises OSError."""
    _function("memcpy")(_pointer(place), data, len(data))


def load() -> None:
    """See to it that prctl() and overwrite() can be called later on, with fewer rights."""
    _function("prctl")


def _function(name):
    """Return a function of the C library: with _ctypes alone, or if that is not as we know it, with ctypes."""
    try:
        import _ctypes

        place, call = _ctypes.dlsym(_ctypes.dlopen(None, 0), name), _ctypes.call_function
        return lambda *arguments: call(place, arguments)
    except (ImportError, AttributeError):
        return lambda *arguments: CLibrary().call(name, *arguments)


def _pointer(place):
    import _ctypes

    return type("Pointer", (_ctypes._SimpleCData,), {"_type_": "P"})(place)
