"""Processes and what they use: CPU by control group, memory, system calls."""

import itertools
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CGROUPS = Path("/sys/fs/cgroup")


class Failure(Exception):
    """Something that the person who runs this can mend; the text says how."""


def target_dir():
    """Where cargo puts what it builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def need(programs):
    """Finds `{program: Debian package}`, installing with apt what is missing."""
    for program, package in programs.items():
        if find(program):
            continue
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Failure(f"{program} is missing: install the package {package}")
        print(f"installing {package} …", file=sys.stderr)
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if package == "postfix":
            # Without a configuration Debian's package starts no mail server of its own.
            choice = b"postfix postfix/main_mailer_type select No configuration\n"
            subprocess.run(["debconf-set-selections"], input=choice, stdout=subprocess.DEVNULL)
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        install = ["apt-get", "install", "-y", "--no-install-recommends", package]
        if subprocess.run(install, env=environment, **quiet).returncode != 0:
            subprocess.run(["apt-get", "update"], env=environment, **quiet)
            subprocess.run(install, env=environment, **quiet)
        if not find(program):
            raise Failure(f"{program} is missing and apt could not install the package {package}")


def find(program):
    """Where a program is, or None."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")


def free_port(ip="127.0.0.1"):
    """A TCP port below the ephemeral ones that nobody listens on, so that no client takes it."""
    import random

    for _ in range(200):
        port = random.randrange(10000, 30000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((ip, port))
                return port
            except OSError:
                pass
    raise Failure(f"no free port on {ip}")


def wait_for(address, seconds=20, process=None):
    """Waits until something greets at `(ip, port)`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process and process.poll() is not None:
            raise Failure(f"{process.args[0]} ended with {process.returncode}")
        try:
            with socket.create_connection(address, 1) as s:
                s.settimeout(2)
                if s.recv(3):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise Failure(f"nothing greets at {address[0]}:{address[1]}")


def stop(process, seconds=15):
    """SIGTERM, and SIGKILL when that doesn't end it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Group:
    """A control group for the processes of one server, whatever it forks.

    CPU comes from version 1 (`cpuacct`) or version 2 (`cpu.stat`) and has nanoseconds or
    microseconds. Without the right to make groups, processes are found by their parents and CPU
    has ticks of 10 ms; that is right for servers whose processes stay.
    """

    # Several servers of one kind may run at a time.
    NUMBERS = itertools.count(1)

    def __init__(self, name):
        name = f"courser-load-{name}-{os.getpid()}-{next(self.NUMBERS)}"
        self.path, self.version, self.first = None, None, None
        for version, base in ((1, CGROUPS / "cpuacct"), (1, CGROUPS / "cpu,cpuacct"), (2, CGROUPS)):
            usage = "cpuacct.usage" if version == 1 else "cgroup.controllers"
            path = base / name
            try:
                if not (base / usage).exists():
                    continue
                path.mkdir(exist_ok=True)
                if version == 2 and not (path / "cpu.stat").exists():
                    path.rmdir()
                    continue
                self.path, self.version = path, version
                return
            except OSError:
                continue

    def run(self, command, **how):
        """Starts a process inside; its children stay inside."""

        def enter():
            if self.path:
                (self.path / "cgroup.procs").write_text(str(os.getpid()))

        process = subprocess.Popen(command, preexec_fn=enter, **how)
        self.first = self.first or process.pid
        return process

    def pids(self):
        """All processes inside."""
        if self.path:
            return [int(p) for p in (self.path / "cgroup.procs").read_text().split()]
        children, inside = {}, []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        todo = [self.first] if self.first else []
        while todo:
            pid = todo.pop()
            inside.append(pid)
            todo += children.get(pid, [])
        return inside

    def cpu_us(self):
        """CPU that all its processes used so far, µs."""
        if self.version == 1:
            return int((self.path / "cpuacct.usage").read_text()) / 1000
        if self.version == 2:
            return int(re.search(r"usage_usec (\d+)", (self.path / "cpu.stat").read_text())[1])
        return sum(process_cpu_us(pid) for pid in self.pids())

    def threads(self):
        """CPU by name of thread, µs, to see where it goes."""
        used = {}
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*"):
                try:
                    name = (task / "comm").read_text().strip()
                    ns = int((task / "schedstat").read_text().split()[0])
                except (OSError, IndexError):
                    continue
                used[name] = used.get(name, 0) + ns / 1000
        return used

    def switches(self):
        """Voluntary context switches of all its threads so far: how often they went to sleep."""
        total = 0
        for pid in self.pids():
            for status in Path(f"/proc/{pid}/task").glob("*/status"):
                try:
                    total += int(re.search(r"\nvoluntary_ctxt_switches:\s*(\d+)", status.read_text())[1])
                except (OSError, TypeError):
                    pass
        return total

    def memory(self):
        """Memory of all its processes, bytes: each shared page counts once in all (Pss)."""
        return sum(memory_of(pid).get("Pss", 0) for pid in self.pids())

    def close(self):
        """Ends what is left inside and removes the group."""
        for pid in self.pids() if self.path else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        for _ in range(50):
            try:
                if self.path:
                    self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


class Peak(threading.Thread):
    """Watches a group's memory; `bytes` is the most that was seen."""

    EVERY_S = 0.25

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.bytes, self.over = group, 0, threading.Event()
        self.start()

    def run(self):
        while True:
            self.bytes = max(self.bytes, self.group.memory())
            if self.over.wait(self.EVERY_S):
                return

    def end(self):
        """Stops watching; gives the peak."""
        self.over.set()
        self.join()
        return self.bytes


def memory_of(pid):
    """`Rss`, `Pss`, `Anonymous` … of one process, bytes."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return {}
    return {m[1]: int(m[2]) << 10 for m in re.finditer(r"^(\w+):\s+(\d+) kB", text, re.M)}


def process_cpu_us(pid):
    """User and system time of one process with its ended children, µs; ticks of 10 ms."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(f) for f in fields[11:15]) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def process_io(pid):
    """What /proc/PID/io counts: rchar, wchar, read_bytes, write_bytes …"""
    text = Path(f"/proc/{pid}/io").read_text()
    return {k: int(v) for k, v in (line.split(": ") for line in text.splitlines())}


def file_system(path):
    """The type of the file system that a directory is on."""
    out = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True)
    return out.stdout.strip()


def commit():
    """Which commit is checked out, with `+` where files differ from it. A program given by
    COURSER_PROGRAM can be of any."""
    if program := os.environ.get("COURSER_PROGRAM"):
        return f"unknown (COURSER_PROGRAM={Path(program).name})"
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        # The tables of the runs before this one don't change what is measured.
        others = [".", ":(exclude)bench/RESULTS.md"]
        changed = subprocess.run([*git, "status", "--porcelain", "-uno", "--", *others], capture_output=True, text=True).stdout
    except OSError:
        return "?"
    return head + ("+" if changed.strip() else "")


def machine():
    """Where and of what this was measured."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
    }
