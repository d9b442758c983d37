"""One body to 1,000 recipients, at one site and at 1,000 sites: bytes written and read.

The recipients' domains have MX records, all of one host or each of its own. A second row of each
has every recipient deferred first and the server started again, so that the body is in no memory
when all are tried a second time. Counted are the bytes of the server's calls on files
(/proc/PID/io: wchar, rchar; sockets go over io_uring, which these don't count), and what went to
the disk in whole pages (write_bytes, read_bytes).
"""

import time
from pathlib import Path

from . import compare, servers, tables
from .growth import PATIENT
from .receivers import CourserSink, Nsd
from .submit import Submitter
from .system import Failure, free_port, machine, process_io

RECIPIENTS = 1000
SIZE = 100_000
PATIENCE_S = 120
COUNTS = ("wchar", "write_bytes", "rchar", "read_bytes")


def io(running):
    """What the server's processes did so far."""
    counts = [process_io(pid) for pid in running.group.pids()]
    return {key: sum(c[key] for c in counts) for key in COUNTS} | {"events_bytes": events(running)}


def events(running):
    """Bytes that its thread for events wrote so far."""
    total = 0
    for pid in running.group.pids():
        for task in Path(f"/proc/{pid}/task").glob("*"):
            if (task / "comm").read_text().strip() == "events-write":
                total += process_io(f"{pid}/task/{task.name}")["wchar"]
    return total


def wait(running, what, wanted):
    """Waits until a total of the server is `wanted`."""
    end = time.monotonic() + PATIENCE_S
    while (status := running.server.status())["totals"][what] < wanted:
        if time.monotonic() > end:
            raise Failure(f"only {status['totals'][what]} of {wanted} {what}: {status['gauges']}")
        time.sleep(0.05)
    # What it still writes about them.
    time.sleep(1.5)


def send(running, messages, recipients, sites, size):
    """Hands messages in and waits for their 250."""
    sender = Submitter(running.listen, messages, recipients=recipients, domains=sites,
                       domain="d%.load.test", size=size, sessions=1)
    if sender.wait() != 0:
        raise Failure("the message was not taken")


def point(base, sites, again, size):
    """One row."""
    port = free_port("0.0.0.0")
    nsd = Nsd(base, sites, sites)
    everywhere = [("0.0.0.0", port)]
    sink = CourserSink(base, everywhere, *(["--greylist", "7d"] if again else []))
    extra = PATIENT + f'\n[dns]\nservers = ["127.0.0.1:{nsd.port}"]\n'
    try:
        options = dict(route=False, delivery=f"port = {port}")
        with servers.Running("courser", base, None, extra=extra, options=options) as running:
            before = io(running)
            send(running, 1, RECIPIENTS, sites, size)
            if again:
                wait(running, "deferrals", RECIPIENTS)
                sink.stop()
                sink = CourserSink(base, everywhere)
                running.server.stop()
                running.server.start(running.group)
                running.server.status()
                # The events before the start are compressed now, which isn't meant.
                time.sleep(3)
                # Only what the attempt that delivers reads and writes.
                before = io(running)
                out = running.server.run("queue", "retry", "--all")
                if out.returncode != 0:
                    raise Failure(f"courser queue retry: {out.stderr}")
            wait(running, "delivered", RECIPIENTS)
            spent = {key: now - before[key] for key, now in io(running).items()}
            counts = sink.counts()
    finally:
        sink.stop()
        nsd.stop()
    result = {"sites": sites, "again": again, "recipients": RECIPIENTS, "size": size,
              "transactions": counts["messages"], **spent}
    print(f"{RECIPIENTS} recipients at {sites} sites{', second attempt' if again else ''}: written"
          f" {spent['wchar']:,} ({spent['write_bytes']:,} in pages), read {spent['rchar']:,}"
          f" ({spent['read_bytes']:,}), {counts['messages']} transactions", flush=True)
    return result


def report(points):
    """The table."""
    head = ["recipients", "sites", "attempt", "transactions", "body × transactions", "written to files",
            "of it events", "in bodies", "to disk, in pages", "read from files", "in bodies"]
    kb = lambda n: f"{n / 1000:,.0f} kB"
    rows = []
    for p in points:
        rows.append([tables.number(p["recipients"]), tables.number(p["sites"]),
                     "second, after a restart" if p["again"] else "first", tables.number(p["transactions"]),
                     kb(p["size"] * p["transactions"]), kb(p["wchar"]), kb(p["events_bytes"]),
                     f"{p['wchar'] / p['size']:.1f}",
                     kb(p["write_bytes"]), kb(p["rchar"]), f"{p['rchar'] / p['size']:.1f}"])
    return tables.table(head, rows)


def main(options):
    """The subcommand."""
    base = servers.scratch_base(options.dir)
    points = [point(base, sites, again, SIZE) for again in (False, True) for sites in (1, RECIPIENTS)]
    text = report(points)
    print("\n" + text)
    compare.finish(options, "fanout", text, {"machine": machine(), "points": points})
