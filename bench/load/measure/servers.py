"""Finds the files in servers/ and runs what they describe.

A file `servers/NAME.py` has one class, `Server`:

    PACKAGES = {"program": "Debian package"}        what to install
    def __init__(self, setup): ...                  a Setup: where, with which limits
    def version(self): ...                          one line
    def start(self, group): ...                     starts it inside the group (group.run(command)),
                                                    and returns once it can be connected to
    def stop(self): ...                             ends it
    def waiting(self): ...                          messages or deliveries that it still holds
    NOTES = ["setting: why", ...]                   what was set for this work

It listens on setup.listen, sends everything to setup.sink, relays for 127.0.0.0/8, keeps its
files below setup.home, and syncs each message before it answers 250.
"""

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from .system import Failure, Group, file_system, free_port, need, target_dir

SERVERS = Path(__file__).resolve().parents[1] / "servers"


@dataclass
class Setup:
    """What a server is told."""

    home: Path
    listen: tuple
    sink: tuple
    sessions: int = 20
    # Of servers that know it: laid over what their file says.
    extra: str = ""
    options: dict = field(default_factory=dict)


def names():
    """Every server there is a file for."""
    return sorted(p.stem for p in SERVERS.glob("*.py"))


def load(name):
    """The class in servers/NAME.py, with its packages installed."""
    file = SERVERS / f"{name}.py"
    if not file.exists():
        raise Failure(f"there is no server {name!r} in {SERVERS}, only {', '.join(names())}")
    spec = importlib.util.spec_from_file_location(f"server_{name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    need(module.Server.PACKAGES)
    return module.Server


def scratch_base(given=None):
    """The directory that all servers' files lie in: a real disk, the same one for all."""
    base = Path(given) if given else target_dir() / "load"
    base.mkdir(parents=True, exist_ok=True)
    if file_system(base) in ("tmpfs", "ramfs"):
        raise Failure(f"{base} is in memory, where a sync costs nothing: give --dir on a disk")
    return base


class Running:
    """A server that runs, with its scratch directory and its control group."""

    def __init__(self, name, base, sink, sessions=20, keep=False, **more):
        kind = load(name)
        self.name, self.keep = name, keep
        self.home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
        self.home.chmod(0o755)
        self.listen = ("127.0.0.1", free_port())
        self.group = Group(name)
        self.server = kind(Setup(self.home, self.listen, sink, sessions, **more))
        try:
            self.server.start(self.group)
        except BaseException:
            self.keep = True
            self.close()
            raise

    def alive(self):
        """Whether any of its processes runs."""
        return bool(self.group.pids())

    def close(self):
        """Stops it and deletes its files."""
        try:
            self.server.stop()
        finally:
            self.group.close()
            if self.keep:
                print(f"{self.name}: its files are in {self.home}")
            else:
                shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.keep = self.keep or (kind is not None and kind is not KeyboardInterrupt)
        self.close()
