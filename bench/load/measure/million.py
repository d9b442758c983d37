"""A million queued deliveries of 10,000 messages: memory, start, first delivery.

Every domain goes to a receiver that isn't there yet, so that each delivery was tried once and
waits for its retry, as a real queue does. The server is stopped and started on what it kept, and
the page cache is dropped before if that is allowed. Then a fresh message shows how soon the first
delivery is over; and the queue itself is let go by `courser queue retry` where it waits.
"""

import subprocess
import time
from pathlib import Path

from . import compare, growth, servers, tables, traffic
from .receivers import CourserSink
from .submit import Submitter
from .system import Failure, free_port, machine, memory_of

RECIPIENTS = 100
SIZE = 1000
DOMAINS = 1000
# What nobody waits longer for, seconds.
PATIENCE_S = 600


def rss(running):
    """Resident bytes of the server, and what of them is its own heap and stacks."""
    all_ = [memory_of(pid) for pid in running.group.pids()]
    return sum(m["Rss"] for m in all_), sum(m["Anonymous"] for m in all_)


def settled(running, every=6.0, seconds=60):
    """Its memory, once it no longer changes by more than a hundredth."""
    end = time.monotonic() + seconds
    last = rss(running)
    while True:
        time.sleep(every)
        now = rss(running)
        if abs(now[1] - last[1]) < last[1] / 100 or time.monotonic() > end:
            return now
        last = now


def drop_caches():
    """Whether the kernel forgot what it has of files, as after a boot."""
    subprocess.run(["sync"])
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
        return True
    except OSError:
        return False


def start(running):
    """Starts the server on what it kept; gives the seconds until it greets, and answers."""
    began = time.monotonic()
    running.server.start(running.group)
    greets = time.monotonic() - began
    running.server.status(PATIENCE_S)
    return greets, time.monotonic() - began


def deliver_one(running, sink, began):
    """Hands in one message; gives the time since `began` until it arrived, s."""
    before = sink.messages()
    if traffic.source(running.listen, 1, 1, SIZE).wait() != 0:
        raise Failure("the server takes no message")
    return sink.wait(before + 1, PATIENCE_S, running.alive) - began


def point(base, deliveries, options):
    """One row."""
    there = ("127.0.0.1", free_port())
    sink = traffic.Sink(base, there, 20)
    address = ("127.0.0.1", free_port())
    refusing = CourserSink(base, [address], "--greylist", "7d")
    extra = growth.PATIENT + growth.DEFERRING.format(ip=address[0], port=address[1])
    taking = None
    try:
        with servers.Running("courser", base, there, 20, extra=extra) as running:
            deliver_one(running, sink, 0)
            empty = settled(running)
            began = time.monotonic()
            fill(running, deliveries)
            filled = time.monotonic() - began
            queued = settled(running)
            spool = running.server.status()["gauges"]["spool_bytes"]
            began = time.monotonic()
            running.server.stop()
            stopped = time.monotonic() - began
            refusing.stop()
            cold = drop_caches()
            began = time.monotonic()
            greets, answers = start(running)
            first = deliver_one(running, sink, began)
            if (held := running.server.waiting()) != deliveries:
                raise Failure(f"{held} of {deliveries} deliveries are there after the start")
            after = settled(running)
            taking = CourserSink(base, [address])
            retry = first_retry(running, taking)
    finally:
        sink.stop()
        refusing.stop()
        if taking:
            taking.stop()
    each = lambda now, which: (now[which] - empty[which]) / deliveries
    result = {
        "deliveries": deliveries,
        "messages": deliveries // RECIPIENTS,
        "filled_s": filled,
        "spool_bytes": spool,
        "empty_bytes": empty[0],
        "queued_bytes": queued[0],
        "restarted_bytes": after[0],
        "bytes_each": each(queued, 0),
        "bytes_each_after_restart": each(after, 0),
        "stop_s": stopped,
        "cold_cache": cold,
        "start_s": greets,
        "answers_s": answers,
        "first_delivery_s": first,
        "first_retry_s": retry,
    }
    print(f"{deliveries:,} deliveries: {result['bytes_each']:.0f} bytes each, {result['bytes_each_after_restart']:.0f}"
          f" after a restart; starts in {greets:.2f} s, first delivery after {first:.2f} s,"
          f" first of the queue {retry:.2f} s after its retry", flush=True)
    return result


def fill(running, deliveries):
    """Hands the messages in, and waits until each of their deliveries was tried once."""
    sender = Submitter(running.listen, deliveries // RECIPIENTS, recipients=RECIPIENTS, domains=DOMAINS,
                       domain="d%.deferred.test", size=SIZE)
    if sender.wait() != 0:
        raise Failure("the queue could not be filled")
    end = time.monotonic() + PATIENCE_S
    while running.server.status()["gauges"]["deferred"] < deliveries:
        if time.monotonic() > end:
            raise Failure(f"not deferred after {PATIENCE_S} s: {running.server.status()['gauges']}")
        time.sleep(0.5)


def first_retry(running, taking):
    """Tries the whole queue again, now; gives the seconds until the first of it is delivered."""
    began = time.monotonic()
    asked = subprocess.Popen([running.server.program, "queue", "retry", "--all", "--socket", running.server.socket],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = began + PATIENCE_S
    while running.server.status()["totals"]["delivered"] < 2:
        if asked.poll():
            raise Failure(f"courser queue retry: {asked.stderr.read().decode()}")
        if time.monotonic() > end:
            raise Failure(f"nothing of the queue was delivered: {running.server.status()['gauges']}")
        time.sleep(0.01)
    took = time.monotonic() - began
    asked.wait()
    return took


def report(points):
    """The table."""
    head = ["queued deliveries", "messages", "spool", "memory empty", "with the queue", "a delivery",
            "a delivery, after a restart", "start", "first delivery of a fresh message", "first of the queue, once released"]
    rows = []
    for p in points:
        start = f"{p['start_s']:.2f} s" + (", cold cache" if p["cold_cache"] else "")
        rows.append([tables.number(p["deliveries"]), tables.number(p["messages"]), tables.mib(p["spool_bytes"]),
                     tables.mib(p["empty_bytes"]), tables.mib(p["queued_bytes"]), f"{p['bytes_each']:.0f} bytes",
                     f"{p['bytes_each_after_restart']:.0f} bytes", start, f"{p['first_delivery_s']:.2f} s",
                     f"{p['first_retry_s']:.2f} s"])
    return tables.table(head, rows)


def main(options):
    """The subcommand."""
    base = servers.scratch_base(options.dir)
    points = [point(base, n, options) for n in ([10_000, 100_000] if options.quick else [100_000, 1_000_000])]
    text = report(points)
    print("\n" + text)
    compare.finish(options, "million", text, {"machine": machine(), "points": points})
