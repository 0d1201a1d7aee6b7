"""Which errors of reading are the machine's and no fault of the file: the one place that decides.

A file that cannot be read costs its objects, for good. If the machine fails, the next file would fail as well, and the
same file may be read a moment later: so such an error ends the task, which is tried again.
"""

from __future__ import annotations

import errno
import os

from swimmy_scale.storage.files import number_of

OF_THE_MACHINE = frozenset(
    # Too much is open or asked for at once.
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EUSERS}
    # The file server or the way to it: NFS, Lustre, CephFS.
    | {errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
    | {errno.ENETRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN}
    | {errno.EPIPE, errno.EREMOTEIO, errno.ENOLINK, errno.ECOMM, errno.EPROTO, errno.ENOLCK, errno.EDEADLK}
    # Who may read has changed for all files: a ticket of Kerberos has run out.
    | {errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EKEYREJECTED, errno.ENOKEY}
    # Whatever is written meanwhile has no room.
    | {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
)
"""All others are the file's: that it is not there, may not be read, is no file, or lies on a bad sector (EIO)."""


def pass_on(error: BaseException, path: str = "") -> None:
    """Raise an error of the machine, or do nothing: then it is the file's.

    Parameters
    ----------
    path : str
        What was read, if the error does not name it.

    Raises
    ------
    MemoryError
        When no memory is left.
    OSError
        For another error of the machine, with its number and the path.
    """
    if isinstance(error, MemoryError):
        raise error
    for cause in _causes(error):
        number = number_of(cause)
        if number in OF_THE_MACHINE:
            named = getattr(cause, "filename", None) or path
            said = (isinstance(cause, OSError) and cause.strerror) or os.strerror(number)
            raise OSError(number, said, *([named] if named else [])) from error


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error, and what led to it."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found
