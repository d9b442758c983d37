"""A submitter for what smtp-source can't do: many domains, many recipients, pipelining.

`Submitter` runs this file as processes of their own. Each session pipelines whole transactions
(MAIL, RCPT …, BDAT LAST; RFC 2920, RFC 3030), a few of them under way at a time, so that it
costs little beside the server on the same cores.
"""

import argparse
import socket
import subprocess
import sys
import threading
from pathlib import Path

# Transactions that one session has under way.
WINDOW = 4


def body(size):
    """A message of about so many octets, in lines of 78."""
    head = b"From: <from@example.com>\r\nSubject: load\r\n\r\n"
    line = b"x" * 76 + b"\r\n"
    return head + line * max(1, (size - len(head)) // len(line))


def transaction(number, options, content):
    """One message: recipient `i` of all is `u<i>@` and the pattern with `i` modulo domains."""
    first = number * options.recipients
    commands = [b"MAIL FROM:<from@example.com>\r\n"]
    for i in range(first, first + options.recipients):
        domain = options.domain.replace("%", str(i % options.domains))
        commands.append(f"RCPT TO:<u{i}@{domain}>\r\n".encode())
    commands.append(b"BDAT %d LAST\r\n" % len(content))
    commands.append(content)
    return b"".join(commands)


class Replies:
    """Reads replies of a session in order."""

    def __init__(self, connection):
        self.connection, self.rest = connection, b""

    def take(self, count):
        """Waits for so many replies; a refusal ends everything, since then the load is another."""
        while count > 0:
            at = self.rest.find(b"\n")
            if at < 0:
                more = self.connection.recv(65536)
                if not more:
                    raise ConnectionError("the server closed a session")
                self.rest += more
                continue
            line, self.rest = self.rest[:at], self.rest[at + 1 :]
            if line[3:4] != b"-":
                if line[:1] != b"2":
                    raise ConnectionError(f"the server said {line.decode(errors='replace').strip()}")
                count -= 1


def session(options, numbers, content, lock, failures):
    """One session until there are no numbers left."""
    try:
        with socket.create_connection(options.to, 60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(300)
            replies = Replies(connection)
            replies.take(1)
            connection.sendall(b"EHLO load.example.com\r\n")
            replies.take(1)
            under_way = 0
            while True:
                with lock:
                    number = next(numbers, None)
                if number is not None:
                    connection.sendall(transaction(number, options, content))
                    under_way += 1
                elif under_way == 0:
                    break
                if number is None or under_way >= WINDOW:
                    replies.take(options.recipients + 2)
                    under_way -= 1
            connection.sendall(b"QUIT\r\n")
            replies.take(1)
    except (OSError, ConnectionError) as failure:
        failures.append(str(failure))


class Submitter:
    """Sends in processes of its own; `wait` until all is accepted."""

    def __init__(self, to, messages, *, recipients=1, domains=1, domain="example.net", size=1000,
                 sessions=20, processes=1):
        self.processes = []
        for i in range(processes):
            first, last = messages * i // processes, messages * (i + 1) // processes
            command = [sys.executable, Path(__file__), f"{to[0]}:{to[1]}", str(first), str(last)]
            command += ["--recipients", str(recipients), "--domains", str(domains), "--domain", domain]
            command += ["--size", str(size), "--sessions", str(sessions // processes)]
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))

    def poll(self):
        """The exit code once all have ended: 0, or that of one that failed."""
        codes = [p.poll() for p in self.processes]
        return next((c for c in codes if c), None if None in codes else 0)

    def wait(self):
        """Waits until all have ended; gives the exit code."""
        return max(abs(p.wait()) for p in self.processes)

    @property
    def returncode(self):
        return self.poll()

    def terminate(self):
        for p in self.processes:
            p.terminate()

    def kill(self):
        for p in self.processes:
            p.kill()


def main():
    """One process."""
    p = argparse.ArgumentParser()
    p.add_argument("to", type=lambda t: (t.rpartition(":")[0], int(t.rpartition(":")[2])))
    p.add_argument("first", type=int)
    p.add_argument("last", type=int)
    for name in ("recipients", "domains", "size", "sessions"):
        p.add_argument(f"--{name}", type=int, required=True)
    p.add_argument("--domain", required=True)
    options = p.parse_args()
    numbers, lock, failures = iter(range(options.first, options.last)), threading.Lock(), []
    content = body(options.size)
    each = (options, numbers, content, lock, failures)
    threads = [threading.Thread(target=session, args=each) for _ in range(max(1, options.sessions))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        sys.exit(f"submitter: {failures[0]}")


if __name__ == "__main__":
    main()
