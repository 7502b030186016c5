"""A tiny process that ends a group of brokers when the process that owns them is gone, however it went.

Invariant: run as a program (`python guard.py OWNER_PID DIRECTORY…`), it leads the process group that the brokers join,
so that killing them needs no pids that could have been recycled; it ends nothing while its owner lives.

PR_SET_PDEATHSIG would do without a process, and would fire when the *thread* that started the broker ends.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

POLL_S = 0.25


def main(owner_pid: int, directories: list[str]) -> None:
    """Waits until `owner_pid` is no longer our parent, kills our process group, removes `directories`."""
    while os.getppid() == owner_pid:
        time.sleep(POLL_S)
    group = os.getpgrp()
    if os.fork() == 0:
        # The group's kill would end this process before it has cleaned up.
        os.setpgid(0, 0)
        os.killpg(group, signal.SIGKILL)
        for directory in directories:
            # A broker that is being killed may write one more file.
            for _ in range(20):
                shutil.rmtree(directory, ignore_errors=True)
                if not Path(directory).exists():
                    break
                time.sleep(POLL_S)
    else:
        os.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
