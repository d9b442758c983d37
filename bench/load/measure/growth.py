"""Whether Courser's cost grows: with the queue, with domains, with submitters."""

import statistics
import subprocess
import sys
import time

from . import compare, servers, tables, traffic
from .receivers import CourserSink, Nsd
from .submit import Submitter
from .system import Failure, free_port, machine

SIZE = 10000

# Deferred mail stays deferred, and nobody is told about it.
PATIENT = """
[[stream]]
name = "default"
delay_dsn_after = "off"
[stream.retry]
first = "12h"
max = "12h"
"""
DEFERRING = """
[[route]]
domain = "*.deferred.test"
to = ["{ip}:{port}"]
"""


def row(kind, value, runs, **more):
    """What several runs of one point say, and a line for who watches."""
    it = {"kind": kind, "value": value, "runs": runs, **more}
    cpu = statistics.median(r["cpu_us"] for r in runs)
    speed = statistics.median(r["end_to_end_per_s"] for r in runs)
    print(f"{kind} {value:>9,}: {cpu:.1f} µs a message, {speed:,.0f}/s,"
          f" {tables.mib(runs[-1]['memory_bytes'])}", flush=True)
    return it


def defer(server, listen, wanted, held, seconds=1800):
    """Adds deliveries until `wanted` are deferred; `held` are already."""
    more = wanted - held
    sender = Submitter(listen, max(1, more // 100), recipients=min(100, more), domains=1000,
                       domain="d%.deferred.test", size=1000)
    if sender.wait() != 0:
        raise Failure("the queue could not be filled")
    end = time.monotonic() + seconds
    while server.status()["gauges"]["deferred"] < wanted:
        if time.monotonic() > end:
            raise Failure(f"not deferred after {seconds} s: {server.status()['gauges']}")
        time.sleep(0.5)


def depth(options):
    """CPU of fresh mail while so many deliveries are deferred."""
    base = servers.scratch_base(options.dir)
    depths = [0, 1000, 10_000, 100_000] if options.quick else [0, 1000, 100_000, 1_000_000]
    messages = 2000 if options.quick else 10000
    there = ("127.0.0.1", free_port())
    sink = traffic.Sink(base, there, 20)
    deferring = CourserSink(base, [("127.0.0.1", free_port())], "--greylist", "7d")
    extra = PATIENT + DEFERRING.format(ip=deferring.listen[0][0], port=deferring.listen[0][1])
    rows = []
    try:
        with servers.Running("courser", base, there, 20, extra=extra) as running:
            send = lambda: traffic.source(running.listen, messages, 20, SIZE)
            compare.measure(running, sink, messages, send)  # warm-up
            held = 0
            for value in depths:
                if value > held:
                    defer(running.server, running.listen, value, held)
                    held = value
                    time.sleep(2)
                runs = [compare.measure(running, sink, messages, send, left=held) for _ in range(options.repeat)]
                rows.append(row("queued deliveries", value, runs))
    finally:
        deferring.stop()
        sink.stop()
    return rows


def domains(options):
    """CPU of mail to so many domains through a smart host."""
    base = servers.scratch_base(options.dir)
    rows = []
    for value in [10, 1000, 10_000] if options.quick else [10, 1000, 100_000]:
        there = ("127.0.0.1", free_port())
        sink = traffic.Sink(base, there, 20)
        try:
            with servers.Running("courser", base, there, 20) as running:
                rows.append(domain_runs("domains, smart host", running, sink, value, options))
        finally:
            sink.stop()
    return rows


def domain_runs(kind, running, sink, value, options):
    """The runs of one number of domains, each domain at least once in each."""
    own = "own" in kind
    # With a connection for each message a run takes minutes, so there is one, and a short one.
    messages = 10_000 if options.quick else max(value, 20_000) if own else 100_000
    send = lambda n: Submitter(running.listen, n, domains=value, domain="d%.load.test", size=SIZE)
    compare.measure(running, sink, 2000, lambda: send(2000))  # warm-up
    repeat = 1 if options.quick or own else max(1, options.repeat - 1)
    runs = [compare.measure(running, sink, messages, lambda: send(messages)) for _ in range(repeat)]
    return row(kind, value, runs)


def mx(options):
    """CPU of mail to so many domains by their MX records: of ten hosts, and each its own."""
    base = servers.scratch_base(options.dir)
    rows = []
    most = 10_000 if options.quick else 100_000
    points = [("domains, MX of 10 hosts", n, 10) for n in (10, 1000, most)]
    points += [("domains, own MX each, a connection a message", n, n) for n in (10, 1000, most)]
    for kind, value, hosts in points:
        there = ("127.0.0.1", free_port())
        sink = traffic.Sink(base, ("0.0.0.0", there[1]), 9000)
        nsd = Nsd(base, value, hosts)
        extra = f'\n[dns]\nservers = ["127.0.0.1:{nsd.port}"]\ncache_entries = 1000000\n'
        more = dict(route=False, delivery=f"port = {there[1]}")
        if hosts > 10 or "own" in kind:
            # A domain with a host of its own gets a connection for its one message, so that is what
            # is compared; and no more of them at once than the sink's backlog has places.
            more |= dict(messages=1, limits="max_delivery_sessions = 3000")
        try:
            with servers.Running("courser", base, there, 20, extra=extra, options=more) as running:
                rows.append(domain_runs(kind, running, sink, value, options))
        finally:
            nsd.stop()
            sink.stop()
    return rows


class Sources:
    """Several smtp-source at once, so that none has too many sessions."""

    EACH = 500

    def __init__(self, to, messages, sessions, size):
        several = max(1, -(-sessions // self.EACH))
        self.processes = [
            traffic.source(to, messages // several, sessions // several, size, log=sys.stderr)
            for _ in range(several)
        ]

    def poll(self):
        codes = [p.poll() for p in self.processes]
        return next((c for c in codes if c), None if None in codes else 0)

    returncode = property(poll)

    def wait(self, seconds=None):
        for p in self.processes:
            p.wait(seconds)

    def terminate(self):
        for p in self.processes:
            p.terminate()

    def kill(self):
        for p in self.processes:
            p.kill()


def submitters(options):
    """CPU of mail from so many senders at once."""
    base = servers.scratch_base(options.dir)
    messages = 8000 if options.quick else 60_000
    rows = []
    for value in [20, 200, 2000]:
        there = ("127.0.0.1", free_port())
        sink = traffic.Sink(base, there, 20)
        try:
            # As many connections to the sink each time: only the senders differ.
            with servers.Running("courser", base, there, 20) as running:
                send = lambda: Sources(running.listen, messages, value, SIZE)
                compare.measure(running, sink, messages, send)  # warm-up
                runs = [compare.measure(running, sink, messages, send) for _ in range(options.repeat)]
                rows.append(row("submitters", value, runs))
        finally:
            sink.stop()
    return rows


def report(rows):
    """The table."""
    head = ["", "", "CPU µs a message", "delivered/s", "memory afterwards"]
    lines = []
    for r in rows:
        values = lambda key: [run[key] for run in r["runs"]]
        lines.append([r["kind"], tables.number(r["value"]), tables.spread(values("cpu_us"), 1),
                      tables.spread(values("end_to_end_per_s")), tables.mib(r["runs"][-1]["memory_bytes"])])
    return tables.table(head, lines)


def main(options):
    """The subcommand."""
    parts = {"depth": depth, "domains": domains, "mx": mx, "submitters": submitters}
    rows = [r for name, part in parts.items() if name in (options.only or parts) for r in part(options)]
    text = report(rows)
    print("\n" + text)
    compare.finish(options, "growth", text, {"machine": machine(), "rows": rows})
