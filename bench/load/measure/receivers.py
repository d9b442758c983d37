"""Receivers with manners (`courser sink`), and a name server for their domains (nsd)."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .system import Failure, find, free_port, need, stop, target_dir, wait_for


def program():
    """The program that `cargo build --release` left."""
    return os.environ.get("COURSER_PROGRAM") or target_dir() / "release" / "courser"


class CourserSink:
    """`courser sink` in one process, listening on several addresses; `manners` are its options."""

    def __init__(self, base, listen, *manners, threads=1):
        self.listen = listen
        self.stats = Path(base) / f"sink-{listen[0][0]}-{listen[0][1]}.json"
        command = [program(), "sink", "--threads", str(threads), "--stats", self.stats, *manners]
        command += [w for ip, port in listen for w in ("--listen", f"{ip}:{port}")]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        try:
            # What waits before it greets can't be waited for.
            wait_for(listen[0], process=self.process)
        except Failure:
            if self.process.poll() is not None:
                raise

    def counts(self):
        """What it counted up to a second ago."""
        return json.loads(self.stats.read_text())["total"]

    def messages(self):
        """Messages that it took, up to a second ago."""
        return self.counts()["messages"]

    def stop(self):
        stop(self.process)
        self.stats.unlink(missing_ok=True)


class Nsd:
    """nsd with `domains` below load.test, whose MX are `hosts` hosts on loopback addresses of
    their own: domain `d<i>` has host `i` modulo hosts."""

    def __init__(self, base, domains, hosts):
        need({"nsd": "nsd"})
        self.port = free_port()
        self.home = Path(tempfile.mkdtemp(prefix="nsd-", dir=base))
        at = self.home
        zone = ["$ORIGIN load.test.", "$TTL 86400", "@ IN SOA ns hostmaster 1 3600 600 86400 60",
                "@ IN NS ns", "ns IN A 127.0.0.1"]
        zone += [f"d{i} IN MX 10 mx{i % hosts}" for i in range(domains)]
        zone += [f"mx{i} IN A {address(i)}" for i in range(hosts)]
        (at / "load.test.zone").write_text("\n".join(zone) + "\n")
        (at / "nsd.conf").write_text(
            f'server:\n ip-address: 127.0.0.1\n port: {self.port}\n server-count: 1\n username: ""\n'
            f' chroot: ""\n zonesdir: "{at}"\n pidfile: "{at}/nsd.pid"\n database: ""\n'
            f' zonelistfile: "{at}/zone.list"\n xfrdfile: "{at}/xfrd.state"\n xfrdir: "{at}"\n'
            " rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n"
            'remote-control:\n control-enable: no\nzone:\n name: "load.test"\n zonefile: "load.test.zone"\n'
        )
        with open(at / "log", "wb") as log:
            command = [find("nsd"), "-d", "-c", at / "nsd.conf"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait()

    def wait(self, seconds=60):
        """Waits until it listens, which it does once it has read its zone."""
        import socket

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise Failure(f"nsd doesn't start:\n{(self.home / 'log').read_text()}")

    def stop(self):
        stop(self.process)
        shutil.rmtree(self.home, ignore_errors=True)


def address(i):
    """The loopback address of host `i`: 127.1.0.1 and up, without .0 and .255 at the end."""
    return f"127.{1 + i // 64516}.{i // 254 % 254}.{1 + i % 254}"
