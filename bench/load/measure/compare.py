"""Servers side by side: smtp-source → server → smtp-sink, the same work for each, in turns."""

import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from . import servers, tables, traffic
from .system import Failure, Peak, find, free_port, machine, need, process_cpu_us, stop

# Nothing waits longer than this for one message, seconds.
PATIENCE_S = 600


def default_messages(size):
    """Enough for a run of seconds, few enough for a slow server to end within minutes."""
    return 10000 if size <= 20000 else 3000


def one(name, base, size, messages, sessions, keep=False):
    """One run of one server on fresh queues; gives what was measured."""
    sink_address = ("127.0.0.1", free_port())
    # The sink comes first: a server may remember that nobody was there.
    sink = traffic.Sink(base, sink_address, sessions)
    try:
        with servers.Running(name, base, sink_address, sessions, keep=keep) as running:
            warm_up = min(messages, max(200, messages // 10))
            traffic.source(running.listen, warm_up, sessions, size).wait()
            sink.wait(warm_up, PATIENCE_S, running.alive)
            settle(running)
            send = lambda: traffic.source(running.listen, messages, sessions, size)
            measured = measure(running, sink, messages, send)
            return measured | {"size": size, "sessions": sessions, "version": running.server.version()}
    finally:
        sink.stop()


def settle(running, left=0, seconds=60):
    """Waits until it holds no more than `left` and does nothing."""
    end = time.monotonic() + seconds
    while running.server.waiting() > left:
        if time.monotonic() > end:
            raise Failure(f"{running.name} still holds {running.server.waiting()} messages")
        time.sleep(0.1)
    time.sleep(0.5)


def measure(running, sink, messages, start, left=0):
    """Sends `messages` through a server that is idle, and measures until the last has arrived.
    `start()` starts the sender; the server holds `left` before and afterwards."""
    group = running.group
    before = sink.messages()
    peak = Peak(group)
    threads, switches = group.threads(), group.switches()
    cpu, began = group.cpu_us(), time.monotonic()
    sender = start()
    accepted = None
    end = began + PATIENCE_S
    while sink.messages() - before < messages:
        if accepted is None and sender.poll() is not None:
            accepted = time.monotonic()
            if sender.returncode != 0:
                raise Failure(f"the sender failed against {running.name} ({sender.returncode})")
        if time.monotonic() > end or not running.alive():
            stop(sender)
            raise Failure(f"{running.name}: {sink.messages() - before} of {messages} messages arrived")
        time.sleep(0.004)
    arrived, used = time.monotonic(), group.cpu_us() - cpu
    sender.wait()
    accepted = accepted or arrived
    # What it still writes about them: outcomes, events, deleted files.
    settle(running, left)
    total, switches = group.cpu_us() - cpu, group.switches() - switches
    spent = {k: (v - threads.get(k, 0)) / messages for k, v in group.threads().items()}
    return {
        "server": running.name,
        "messages": messages,
        "accept_per_s": messages / (accepted - began),
        "end_to_end_per_s": messages / (arrived - began),
        "cpu_us": used / messages,
        "cpu_settled_us": total / messages,
        "memory_bytes": group.memory(),
        "peak_bytes": peak.end(),
        "sleeps": switches / messages,
        "threads_us": {k: round(v, 2) for k, v in sorted(spent.items(), key=lambda kv: -kv[1]) if v >= 0.05},
    }


def compare(options):
    """All servers, sizes and repetitions; prints as it goes, gives all runs."""
    base = servers.scratch_base(options.dir)
    runs = []
    for turn in range(options.repeat):
        for size in options.sizes:
            for name in options.servers:
                run = one(name, base, size, options.messages or default_messages(size), options.sessions)
                runs.append(run | {"turn": turn})
                print(
                    f"{name:>10} {size:>7} B: {run['accept_per_s']:8,.0f}/s accepted,"
                    f" {run['end_to_end_per_s']:8,.0f}/s end to end, {run['cpu_us']:8,.1f} µs"
                    f" (settled {run['cpu_settled_us']:,.1f}), {tables.mib(run['peak_bytes'])}",
                    flush=True,
                )
    return runs


def report(runs, servers_in_order):
    """The table, with ratios to the first server."""
    head = ["body", "server", "accepted/s", "delivered/s", "CPU µs a message", "until all is written",
            "sleeps", "peak memory", "CPU ratio", "speed ratio"]
    rows, first = [], servers_in_order[0]
    of = lambda size, name: [r for r in runs if (r["size"], r["server"]) == (size, name)]
    middle = lambda rs, key: statistics.median(r[key] for r in rs)
    for size in dict.fromkeys(r["size"] for r in runs):
        for name in servers_in_order:
            mine, reference = of(size, name), of(size, first)
            values = lambda key: [r[key] for r in mine]
            ratio = lambda key: middle(mine, key) / middle(reference, key)
            rows.append([
                f"{size / 1000:g} kB", name,
                tables.spread(values("accept_per_s")), tables.spread(values("end_to_end_per_s")),
                tables.spread(values("cpu_us")), tables.spread(values("cpu_settled_us")),
                tables.number(middle(mine, "sleeps"), 1),
                tables.mib(max(values("peak_bytes"))),
                f"{ratio('cpu_us'):.1f}", f"{ratio('end_to_end_per_s'):.2f}",
            ])
    return tables.table(head, rows)


def system_calls(options):
    """Counts the system calls of each server with strace, in runs of their own that aren't timed."""
    need({"strace": "strace"})
    base = servers.scratch_base(options.dir)
    counted = []
    for name in options.servers:
        for size in options.sizes:
            messages = options.messages or 2000
            counted.append(count_calls(name, base, size, messages, options.sessions))
    return counted


def count_calls(name, base, size, messages, sessions):
    """System calls of one server for each message. strace slows the server down, so that more is
    done in one call than usual."""
    sink_address = ("127.0.0.1", free_port())
    sink = traffic.Sink(base, sink_address, sessions)
    try:
        with servers.Running(name, base, sink_address, sessions) as running, tempfile.TemporaryDirectory() as dir_:
            traffic.source(running.listen, 200, sessions, size).wait()
            sink.wait(200, PATIENCE_S, running.alive)
            settle(running)
            out = Path(dir_) / "calls"
            attach = [w for pid in running.group.pids() for w in ("-p", str(pid))]
            strace = subprocess.Popen([find("strace"), "-c", "-f", "-q", "-o", str(out), *attach],
                                      stderr=subprocess.DEVNULL)
            time.sleep(2)
            traffic.source(running.listen, messages, sessions, size).wait()
            sink.wait(200 + messages, PATIENCE_S, running.alive)
            time.sleep(0.2)
            strace.send_signal(2)
            strace.wait(30)
            # % time, seconds, usecs/call, calls, [errors,] syscall
            calls = {m[2]: int(m[1]) / messages
                     for m in re.finditer(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)(?:\s+\d+)?\s+(\w+)$", out.read_text(), re.M)
                     if m[2] != "total"}
    finally:
        sink.stop()
    return {"server": name, "size": size, "messages": messages, "total": sum(calls.values()),
            "calls": dict(sorted(calls.items(), key=lambda kv: -kv[1]))}


def report_calls(counted):
    """The table of system calls."""
    rows = []
    for c in counted:
        often = ", ".join(f"{k} {v:.2f}" for k, v in c["calls"].items() if v >= 0.05)
        rows.append([f"{c['size'] / 1000:g} kB", c["server"], f"{c['total']:.1f}",
                     f"{c['calls'].get('io_uring_enter', 0):.2f}", often])
    return tables.table(["body", "server", "system calls a message", "io_uring_enter", "most of them"], rows)


def hold(options):
    """Keeps a server under load for `--hold` seconds, for profilers. It is started here, unless
    `--to` and `--sink` say where one runs already and where it sends to."""
    base = servers.scratch_base(options.dir)
    size = options.sizes[0]
    sink_address = options.sink or ("127.0.0.1", free_port())
    sink = traffic.Sink(base, sink_address, options.sessions)
    try:
        if options.to:
            keep_going(options, options.to, sink, size, Attached(options.pid) if options.pid else None)
        else:
            with servers.Running(options.servers[0], base, sink_address, options.sessions) as running:
                print("processes:", *running.group.pids(), flush=True)
                print(f"listens on {running.listen[0]}:{running.listen[1]}, files in {running.home}", flush=True)
                keep_going(options, running.listen, sink, size, running.group)
    finally:
        sink.stop()


class Attached:
    """A process that was started elsewhere."""

    def __init__(self, pid):
        self.pid = pid

    def cpu_us(self):
        """CPU so far, µs; ticks of 10 ms."""
        return process_cpu_us(self.pid)


def keep_going(options, to, sink, size, group=None):
    """Sends until the time is over, and says how fast and at what CPU it goes."""
    end = time.monotonic() + options.hold
    sender = traffic.source(to, 100_000_000, options.sessions, size)
    try:
        while (left := end - time.monotonic()) > 0:
            then, seen, cpu = time.monotonic(), sink.messages(), group.cpu_us() if group else 0
            time.sleep(min(2, left))
            if sender.poll() is not None:
                raise Failure(f"smtp-source ended with {sender.returncode}")
            came = sink.messages() - seen
            text = f"{came / (time.monotonic() - then):,.0f} messages/s"
            if group and came:
                text += f", {(group.cpu_us() - cpu) / came:.1f} µs of CPU each"
            print(text, flush=True)
    finally:
        stop(sender)


def main(options, name="compare"):
    """The subcommand; its table goes to the place `name`."""
    if options.hold:
        return hold(options)
    if options.syscalls:
        counted = system_calls(options)
        text = report_calls(counted)
        print("\n" + text)
        data = {"machine": machine(), "system_calls": counted}
        name = "calls"
    else:
        runs = compare(options)
        text = report(runs, options.servers)
        print("\n" + text)
        versions = {r["server"]: r["version"] for r in runs}
        notes = {name: servers.load(name).NOTES for name in options.servers}
        data = {"machine": machine(), "versions": versions, "notes": notes, "runs": runs}
    finish(options, name, text, data)


def finish(options, name, text, data):
    """Writes JSON with the table beside it, and the table in RESULTS.md, where that is wanted."""
    if options.json:
        tables.write_json(options.json, data)
        text_file = Path(options.json).with_suffix(".md")
        text_file.write_text(f"{tables.measured(data['machine'])}\n\n{text}\n")
        print(f"\nwritten to {options.json} and {text_file}")
    if options.results:
        tables.place(name, text, tables.measured(data["machine"]))
