"""Courser, as `cargo build --release` left it."""

import json
import os
import subprocess
import time

from measure.system import Failure, stop, target_dir, wait_for

CONFIG = """
hostname = "load.example.com"
[server]
shards = {shards}
control_socket = "{home}/control.sock"
{server}
[limits]
{limits}
[spool]
dir = "{home}/spool"
[events]
dir = "{home}/events"
[log]
level = "warn"
[[listener]]
address = ["{listen[0]}:{listen[1]}"]
max_connections = 10000
max_connections_per_client = 10000
[delivery]
allow_private = ["127.0.0.0/8"]
{delivery}
[delivery.limits]
connections = {connections}
connection_rate = "{connection_rate}"
message_rate = "1M/s"
messages_per_connection = {messages}
{extra}
"""

ROUTE = """
[[route]]
domain = "*"
to = ["{sink[0]}:{sink[1]}"]
"""


class Server:
    """One process. `setup.options` has values for the configuration: `shards`, `server`, `limits`
    and `delivery` (lines of those tables), `messages` (of one connection), `connections` and
    `connection_rate` (of one lane), and `route = False` for no smart host."""

    PACKAGES = {}
    NOTES = [
        "delivery.limits: as many connections to the sink as there are senders, and no rates",
        "everything else is the default: synced before 250, events on, one shard for each core",
    ]

    def __init__(self, setup):
        self.program = os.environ.get("COURSER_PROGRAM") or target_dir() / "release" / "courser"
        if not os.access(self.program, os.X_OK):
            raise Failure(f"{self.program} is not there: cargo build --release")
        self.setup, self.process = setup, None
        self.config = setup.home / "courser.toml"
        self.socket = setup.home / "control.sock"
        self.configure()

    def configure(self, **changes):
        """Writes the configuration, with changed options; `reload` or a restart puts them in force."""
        setup = self.setup
        setup.options.update(changes)
        route = ROUTE.format(sink=setup.sink) if setup.options.get("route", True) else ""
        values = {"shards": 0, "server": "", "limits": "", "delivery": "", "messages": 100000,
                  "connection_rate": "100k/s", "connections": setup.sessions} | setup.options
        self.config.write_text(
            CONFIG.format(home=setup.home, listen=setup.listen, extra=setup.extra + route, **values)
        )

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.strip()

    def start(self, group):
        log = open(self.setup.home / "courser.log", "ab")
        command = [self.program, "serve", "--config", self.config]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COURSER_")}
        self.process = group.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        log.close()
        try:
            wait_for(self.setup.listen, process=self.process)
        except Failure as failure:
            raise Failure(f"{failure}\n{(self.setup.home / 'courser.log').read_text()}") from None

    def stop(self):
        if self.process:
            stop(self.process)

    def run(self, *words):
        """`courser WORDS` against this server."""
        environment = dict(os.environ, COURSER_SOCKET=str(self.socket))
        return subprocess.run([self.program, *words], env=environment, capture_output=True, text=True)

    def ask(self, *words):
        """What it says to WORDS as JSON; None when it doesn't answer."""
        out = self.run(*words, "--json")
        lines = [json.loads(line) for line in out.stdout.splitlines() if line]
        return lines[0] if out.returncode == 0 and lines else None

    def reload(self):
        """Puts a changed configuration in force."""
        out = self.run("reload")
        if out.returncode != 0:
            raise Failure(f"courser reload: {out.stdout}{out.stderr}")

    def status(self, seconds=20):
        """Its status, waiting until it answers."""
        end = time.monotonic() + seconds
        while (status := self.ask("status", "--lanes", "1")) is None:
            if time.monotonic() > end:
                raise Failure(f"courser doesn't answer on {self.socket}")
            time.sleep(0.05)
        return status

    def waiting(self):
        return self.status()["gauges"]["queued"]
