"""Thousands of delivery sessions toward slow receivers: memory, lateness, throughput.

Receivers answer each command after 200 ms, without PIPELINING or CHUNKING, and say 250 to a
message some seconds after they have it, so that as many messages as fit through so many sessions
don't need more CPU than there is. The queue is filled while each lane may have one connection
only; a reload lets the others begin. So what a session takes is the difference between two moments
that have the same queue.
"""

import re
import resource
import time

from . import compare, servers, tables
from .receivers import CourserSink
from .submit import Submitter
from .system import Failure, free_port, machine, memory_of

LATENCY_S = 0.2
# One receiver of a route each, so that a lane has some hundreds of connections.
SITES = 20
# Replies that a message waits for in a session that is open: MAIL, RCPT, DATA, and the end.
REPLIES = 4
# Messages of each session once all are open.
MESSAGES = 3
# A lane opens another session while it has so many ready deliveries for each that it has
# (`queue_per_connection`), so more than that is queued at the beginning.
QUEUED = 4.5
# Descriptors that a process needs beside its sessions.
SPARE = 600

ROUTE = """
[[route]]
domain = "s{site}.load.test"
to = ["{ip}:{port}"]
"""
PATIENT = """
[[stream]]
name = "default"
delay_dsn_after = "off"
[dns]
servers = ["127.0.0.1:9"]
"""


class Part:
    """One server with its receivers: as many sessions as one process may have."""

    def __init__(self, base, sessions, accept_s, size, many):
        self.sessions, self.accept_s, self.size = sessions, accept_s, size
        self.total = int(sessions * (QUEUED + MESSAGES))
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE
        groups = -(-sessions // min(limit, 10_000))
        port = free_port("0.0.0.0")
        self.sinks, routes = [], []
        manners = ["--latency", f"{int(LATENCY_S * 1000)}ms", "--delay-accept", f"{int(accept_s * 1000)}ms",
                   "--without", "pipelining,chunking"]
        for g in range(groups):
            addresses = [(f"127.{60 + many}.{g}.{s + 1}", port) for s in range(g, SITES, groups)]
            self.sinks.append(CourserSink(base, addresses, *manners))
            routes += addresses
        extra = PATIENT + "".join(ROUTE.format(site=i, ip=ip, port=p) for i, (ip, p) in enumerate(routes))
        options = dict(
            route=False,
            connections=1,
            # They begin over the time of one message, so that not all speak at once ever after.
            connection_rate=f"{max(1, int(sessions / SITES / (REPLIES * LATENCY_S + accept_s)))}/s",
            # Each shard has its part of them, and not just as many sites as the other.
            limits=f"max_delivery_sessions = {2 * sessions}\nbody_memory = \"8MiB\"",
        )
        self.running = servers.Running("courser", base, None, extra=extra, options=options)

    def fill(self):
        """Hands the messages in; few go out meanwhile."""
        sender = Submitter(self.running.listen, self.total, domains=SITES, domain="s%.load.test", size=self.size)
        if sender.wait() != 0:
            raise Failure("the queue could not be filled")

    def release(self):
        """Lets all sessions begin."""
        server = self.running.server
        server.configure(connections=-(-self.sessions // SITES))
        server.reload()

    def now(self):
        """What the server says."""
        return self.running.server.status()["gauges"]

    def memory(self):
        """Resident bytes of the server."""
        return sum(memory_of(pid)["Rss"] for pid in self.running.group.pids())

    def sent(self):
        """Messages that the receivers took."""
        return sum(s.messages() for s in self.sinks)

    def close(self):
        self.running.close()
        for sink in self.sinks:
            sink.stop()


def point(base, sessions, accept_s, size, options):
    """One row: so many sessions, in as many servers as the limit of open files makes necessary."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE
    many = -(-sessions // limit)
    parts = []
    try:
        for i in range(many):
            parts.append(Part(base, sessions // many, accept_s, size, i))
        return run(parts, sessions, accept_s, size)
    finally:
        for part in parts:
            part.close()


def run(parts, sessions, accept_s, size):
    """Fills, releases, watches as long as there is something for each session."""
    for part in parts:
        part.fill()
    time.sleep(1)
    before = [(p.memory(), p.now()["delivery_sessions"]) for p in parts]
    cpu = sum(p.running.group.cpu_us() for p in parts)
    began, sent = time.monotonic(), sum(p.sent() for p in parts)
    for part in parts:
        part.release()
    peak, most, samples = 0, 0, []
    end = began + 600
    while True:
        gauges = [p.now() for p in parts]
        opened, now = sum(g["delivery_sessions"] for g in gauges), time.monotonic()
        memory = sum(p.memory() for p in parts)
        if opened >= most:
            most, peak = opened, max(peak, memory)
        samples.append((now - began, opened, sum(p.sent() for p in parts) - sent, memory))
        if sum(g["ready"] for g in gauges) < sessions / 2:
            break
        if now > end:
            raise Failure(f"not done after 600 s: {gauges}")
        time.sleep(0.5)
    took, messages = now - began, samples[-1][2]
    used = sum(p.running.group.cpu_us() for p in parts) - cpu
    time.sleep(1)
    late = lateness([f for p in parts for f in (p.running.home / "events").glob("*.jsonl")], accept_s)
    failed = sum(p.running.server.status()["totals"]["deferrals"] for p in parts)
    grown = peak - sum(m for m, _ in before)
    latency = REPLIES * LATENCY_S + accept_s
    result = {
        "sessions": sessions,
        "servers": len(parts),
        "size": size,
        "accept_s": accept_s,
        "most_sessions": most,
        "bytes_per_session": grown / max(1, most - sum(s for _, s in before)),
        "memory_bytes": peak,
        "messages": messages,
        "deferrals": failed,
        "seconds": took,
        "ideal_per_s": sessions / latency,
        "measured_per_s": steady(samples, most),
        "cpu_us": used / max(1, messages),
        "lateness_ms": late,
        "samples": samples,
    }
    print(f"{sessions:,} sessions ({most:,} at once): {result['bytes_per_session'] / 1024:.1f} KiB each,"
          f" {result['measured_per_s']:,.0f}/s of {result['ideal_per_s']:,.0f}/s,"
          f" late p50 {late['p50']:.0f} ms, p99.9 {late['p99.9']:.0f} ms, {failed} deferred", flush=True)
    return result


def steady(samples, most):
    """Messages a second while nearly all sessions were open."""
    full = [s for s in samples if s[1] >= 0.98 * most]
    if len(full) < 2 or full[-1][0] == full[0][0]:
        return 0.0
    return (full[-1][2] - full[0][2]) / (full[-1][0] - full[0][0])


def lateness(files, accept_s):
    """How much later messages were over, from MAIL to the last reply, than the receivers' delays
    say, ms: what timers, wake-ups and the queues of both sides add."""
    expected = (REPLIES * LATENCY_S + accept_s) * 1000
    took = re.compile(rb'"transfer_ms":(\d+)')
    late = []
    for file in files:
        with open(file, "rb") as lines:
            late += [int(m[1]) - expected for line in lines
                     if b'"kind":"delivered"' in line and (m := took.search(line))]
    late.sort()
    at = lambda q: late[min(len(late) - 1, int(q * len(late)))] if late else 0
    return {"messages": len(late), "least": at(0), "p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "most": at(1)}


def report(points):
    """The table."""
    head = ["sessions", "at once", "servers", "body", "receiver takes for a message", "memory a session",
            "sessions / latency", "delivered/s", "late p50", "p99.9", "most", "timed out", "CPU µs a message"]
    rows = []
    for p in points:
        late = p["lateness_ms"]
        ms = lambda key: f"{late[key]:,.0f} ms"
        rows.append([tables.number(p["sessions"]), tables.number(p["most_sessions"]), p["servers"],
                     f"{p['size'] / 1000:g} kB", f"{REPLIES * LATENCY_S + p['accept_s']:.1f} s",
                     f"{p['bytes_per_session'] / 1024:.1f} KiB", f"{p['ideal_per_s']:,.0f}/s",
                     tables.number(p["measured_per_s"]), ms("p50"), ms("p99.9"), ms("most"), p["deferrals"],
                     tables.number(p["cpu_us"])])
    return tables.table(head, rows)


def main(options):
    """The subcommand."""
    base = servers.scratch_base(options.dir)
    # (sessions, seconds until 250, octets)
    wanted = [(1000, 0.0, 1000), (10_000, 4.0, 1000), (10_000, 4.0, 10_000), (25_000, 12.0, 1000)]
    if options.quick:
        wanted = [(200, 0.0, 1000), (1000, 1.0, 1000)]
    if options.only:
        wanted = [w for w in wanted if str(w[0]) in options.only]
    points = [point(base, *w, options) for w in wanted]
    text = report(points)
    print("\n" + text)
    compare.finish(options, "sessions", text, {"machine": machine(), "points": points})
