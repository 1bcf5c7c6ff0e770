"""No descriptor or no memory left, wherever in a program it shows: an error people can act on."""

import errno

from mcastctl.model.errors import McastError


class ShortageError(McastError):
    """The system gives this process no more of something."""


_SAID = {
    errno.EMFILE: ("no descriptor left: too many open files (EMFILE)", "raise 'ulimit -n'"),
    errno.ENFILE: (
        "no descriptor left: too many open files in this system (ENFILE)",
        "raise the sysctl fs.file-max",
    ),
    errno.ENOMEM: ("no memory left (ENOMEM)", "free memory, or raise 'ulimit -v'"),
}
_BY_THE_LOADER = {
    "Too many open files in system": errno.ENFILE,
    "Too many open files": errno.EMFILE,
    "Cannot allocate memory": errno.ENOMEM,
    "failed to map segment": errno.ENOMEM,
}
"""What dlopen(3) says of a module it cannot load: it gives no number."""


def shortage(error: BaseException) -> ShortageError | None:
    """Return what an error of the interpreter or the system means, None if it is no shortage."""
    number: int | None = None
    if isinstance(error, OSError):
        number = error.errno
    elif isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif isinstance(error, ImportError):
        said = str(error)
        number = next((one for words, one in _BY_THE_LOADER.items() if words in said), None)
    if number not in _SAID:
        return None
    message, hint = _SAID[number]
    return ShortageError(message, hint=hint)
