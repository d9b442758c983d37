"""dkimpy and Courser sign for each other: `cross.py COURSER RSA_PEM RSA_RECORD ED_RECORD SEED MESSAGES`.

Courser's side is `courser eval`, an object a line. Messages are odd on purpose: folding, white space
at line ends, empty bodies, eight bits, lines of a megabyte. Prints what was checked, and how often it
was not as it should be.
"""

import base64
import json
import random
import subprocess
import sys
import time

import dkim

COURSER, PEM_FILE, RSA_RECORD, ED_RECORD, SEED, MESSAGES = sys.argv[1:]
PEM = open(PEM_FILE, "rb").read()
# RFC 8463 A.2.
ED_SEED = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
DNS = {
    "rsa._domainkey.example.com": {"TXT": [RSA_RECORD]},
    "ed._domainkey.example.com": {"TXT": [ED_RECORD]},
}
# dkimpy's clock is the real one.
NOW = int(time.time())
NAMES = {"s": "simple", "r": "relaxed"}

rnd = random.Random(int(SEED))
counts = {}
running = {}


def ask(kind, message, **fields):
    """What `courser eval KIND` makes of a message."""
    if kind not in running:
        running[kind] = subprocess.Popen([COURSER, "eval", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process = running[kind]
    line = {"message_b64": base64.b64encode(message).decode(), "now": NOW, "dns": DNS, **fields}
    process.stdin.write(json.dumps(line).encode() + b"\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def txt(name, timeout=5):
    """The records, for dkimpy."""
    name = name.decode() if isinstance(name, bytes) else name
    entry = DNS.get(name.rstrip("."))
    return entry["TXT"][0].encode() if entry else None


def text(most):
    """Some words and what stands between them."""
    pieces = [b"word", b" ", b"  ", b"\t", b"x" * 70, "üñ世".encode(), b"=20", b"<b>", b"."]
    return b"".join(rnd.choice(pieces) for _ in range(rnd.randrange(most)))


def message():
    """A message that is easy to get wrong."""
    fields = [b"From: Joe <joe@example.com>"]
    names = [b"To", b"Subject", b"X-Odd", b"Date", b"cc", b"Message-ID", b"Received", b"SUBJECT", b"List-Unsubscribe"]
    for _ in range(rnd.randrange(8)):
        value = text(6)
        for _ in range(rnd.randrange(3)):
            value += b"\r\n" + rnd.choice([b" ", b"\t", b" \t "]) + b"a" + text(5)
        fields.append(rnd.choice(names) + rnd.choice([b": ", b":", b":  ", b":\t"]) + value + rnd.choice([b"", b" ", b"z"]))
    rnd.shuffle(fields)
    body = rnd.choice([b"", b"\r\n", b"\r\n\r\n", None])
    if body is None:
        ends = [b"\r\n", b"\r\n", b" \r\n", b"\r\n\r\n", b"\t\r\n\r\n"]
        body = b"".join(text(8) + rnd.choice(ends) for _ in range(rnd.randrange(1, 12)))
        if rnd.random() < 0.05:
            body += b"y" * 1_000_000 + b"\r\n"
    return b"\r\n".join(fields) + b"\r\n\r\n" + body


def check(what, right, content, detail):
    """Counts it, and shows the first few that are wrong."""
    count = counts.setdefault(what, [0, 0])
    count[not right] += 1
    if not right and count[1] < 4:
        print("WRONG", what, detail, content[:1500])


def attempt(call):
    """The result, or the exception."""
    try:
        return call(), ""
    except Exception as error:  # dkimpy raises what it likes
        return None, repr(error)


def signatures():
    """Each side signs, the other one verifies."""
    content = message()
    for selector in ("rsa", "ed"):
        every = ["ss", "sr", "rs", "rr"]
        for pair in every if selector == "ed" else [rnd.choice(every)]:
            header, body = NAMES[pair[0]], NAMES[pair[1]]
            key = PEM.decode() if selector == "rsa" else ED_SEED.decode()
            signed = ask("dkim-sign", content, domain="example.com", selector=selector, key_pem=key,
                         canonicalization=f"{header}/{body}")
            whole = signed["header"].encode() + content
            right, detail = attempt(lambda: dkim.verify(whole, dnsfunc=txt))
            check("signed by Courser, verified by dkimpy", right, whole, detail)
            field = dkim.sign(
                content, selector.encode(), b"example.com", PEM if selector == "rsa" else ED_SEED,
                canonicalize=(header.encode(), body.encode()),
                signature_algorithm=b"rsa-sha256" if selector == "rsa" else b"ed25519-sha256",
            )
            found = ask("dkim", field + content)["signatures"][0]
            check("signed by dkimpy, verified by Courser", found["result"] == "pass", field + content, found)


def chain():
    """A few hops, sealed by either; both look at it after each."""
    content = message()
    results = b"Authentication-Results: example.com; spf=pass smtp.mailfrom=example.com\r\n"
    for _ in range(rnd.randrange(1, 4)):
        if rnd.random() < 0.5:
            sealed = ask("arc-seal", content, authserv_id="example.com", domain="example.com", selector="rsa",
                         key_pem=PEM.decode())
            if "headers" not in sealed:
                return check("sealed by Courser", False, content, sealed)
            content = "".join(reversed(sealed["headers"])).encode() + content
        else:
            sets, detail = attempt(
                lambda: dkim.arc_sign(results + content, b"rsa", b"example.com", PEM, b"example.com"))
            if sets is None:
                return check("sealed by dkimpy", False, content, detail)
            content = b"".join(sets) + content
        found = ask("arc", content)
        check("chains that Courser validates", found["result"] == "pass", content, found)
        verified, detail = attempt(lambda: dkim.arc_verify(content, dnsfunc=txt))
        check("chains that dkimpy validates", verified and verified[0] == b"pass", content, detail or verified)


for _ in range(int(MESSAGES)):
    signatures()
for _ in range(int(MESSAGES) // 5):
    chain()
for what, (right, wrong) in counts.items():
    print(f"{what}: {right} right, {wrong} wrong")
sys.exit(any(wrong for _, wrong in counts.values()))
