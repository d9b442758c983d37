"""The load: Postfix's smtp-source sends, its smtp-sink receives."""

import os
import subprocess
import time
from pathlib import Path

from .system import Failure, find, need, stop, wait_for

PROGRAMS = {"smtp-source": "postfix", "smtp-sink": "postfix"}


class Sink:
    """smtp-sink, which throws mail away and counts it."""

    def __init__(self, home, address, sessions=256):
        need(PROGRAMS)
        self.counts = Path(home) / f"sink-{address[1]}.counts"
        command = [find("smtp-sink"), "-c", "-m", str(max(256, 2 * sessions))]
        if os.geteuid() == 0:
            command += ["-u", "root"]
        command += [f"{address[0]}:{address[1]}", "4096"]
        # It writes its counts again and again; only the end of the file is read.
        with open(self.counts, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out)
        wait_for(address, process=self.process)

    def messages(self):
        """Messages that it took so far."""
        with open(self.counts, "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - 256))
            text = f.read()
        at = text.rfind(b"mesg=")
        # The last number may be cut where the file ends right now.
        words = text[at + 5 :].split() if at >= 0 else []
        return int(words[0]) if words else 0

    def wait(self, messages, seconds, alive=lambda: True):
        """Waits until it has so many; gives the time."""
        end = time.monotonic() + seconds
        while (seen := self.messages()) < messages:
            if time.monotonic() > end or not alive():
                raise Failure(f"only {seen} of {messages} messages arrived")
            time.sleep(0.004)
        return time.monotonic()

    def stop(self):
        """Ends it."""
        stop(self.process)
        self.counts.unlink(missing_ok=True)


def source(to, messages, sessions, size, recipient="to@example.net", more=(), log=subprocess.DEVNULL):
    """Starts smtp-source: each session sends one message after the other over one connection."""
    command = [find("smtp-source"), "-d", "-s", str(sessions), "-m", str(messages), "-l", str(size)]
    command += ["-f", "from@example.com", "-t", recipient, *more, f"{to[0]}:{to[1]}"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
