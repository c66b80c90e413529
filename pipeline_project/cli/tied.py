"""Becomes the program in its arguments, and has the kernel end it with whoever started it: `python -IS tied.py PARENT PROGRAM ...`.

Run by its path, on the bare standard library, so that it costs a few milliseconds. Linux only, like the rest.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):  # it died before the kernel was told to watch
        sys.exit("whoever started this has ended")
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted; what prctl said holds across it


if __name__ == "__main__":
    main()
