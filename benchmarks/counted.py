"""Run a command so that the one who waits for it can count the processor time of all that it has started.

    python benchmarks/counted.py COMMAND [ARGUMENT ...]

Linux counts the time of a process for the one that waits for it. What outlives its parent, as the process that local
workers start from does for a moment, would be waited for by nobody who counts: here it is. It ends with the status of
the command, when everything has ended.
"""

import ctypes
import os
import subprocess
import sys

BECOME_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans come to this process


def main() -> None:
    """Start the command, and wait for it and all orphans."""
    ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1, 0, 0, 0)
    command, status = subprocess.Popen(sys.argv[1:]), 1
    while True:
        try:
            process_id, code = os.wait()
        except ChildProcessError:
            break
        if process_id == command.pid:
            status = os.waitstatus_to_exitcode(code)
    # Not the interpreter's end: it would look for the command, which is waited for already.
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
