"""pyspf over a DNS that comes with each question: one JSON object per line in, one out.

"without" names habits of pyspf to leave out, so that the caller learns whether a difference comes
from one of them.
"""
import json
import re
import sys

import spf

VOID_MAX = spf.MAX_VOID_LOOKUPS
JOINERS = spf.JOINERS


BARE_PERCENT = spf.RE_INVALID_MACRO


class Query(spf.query):
    without = ()

    def validate_mechanism(self, mech):
        try:
            return spf.query.validate_mechanism(self, mech)
        except spf.PermError as e:
            if "include of itself" in self.without and "trivial recursion" in e.msg:
                return mech, "include", self.d, self.cidrmax, spf.RESULTS.get(mech[0], "pass")
            raise


def answer(case):
    without = set(case["without"])
    dns, failing = case["dns"], set(case["failing"])
    clients_names = {n.lower() for node in dns.values() for n in node.get("PTR", [])}
    hosts = {h.lower() for node in dns.values() for _, h in node.get("MX", [])}

    def text(record):
        if "modifiers twice" in without:
            count = iter(range(1000))
            record = re.sub(r" moo=", lambda _: " moo%d=" % next(count), record)
        if "case of modifiers" in without:
            record = re.sub(r" (redirect|exp)=", lambda m: m[0].lower(), record, flags=re.I)
        if "zero parts" in without:
            record = record.replace("%{d0}", "%{y}")
        return record

    def lookup(name, kind, *_):
        name = name.lower()
        if name in failing:
            if "errors of client names" in without and (kind == "PTR" or name in clients_names):
                return []
            if "errors of further MX hosts" in without and kind in ("A", "AAAA") and name in hosts:
                return []
            raise spf.TempError("DNS %s %s" % (name, kind))
        data = dns.get(name, {}).get(kind, [])
        if kind == "TXT":
            data = [[text(t).encode()] for t in data]
        if kind == "MX":
            data = [(p, h) for p, h in data]
        return [((name, kind), d) for d in data]

    spf.DNSLookup = lookup
    spf.MAX_VOID_LOOKUPS = 10**6 if "void answers behind terms" in without else VOID_MAX
    spf.JOINERS = {k: "." for k in "slodiphcrtv"} if "delimiters kept" in without else JOINERS
    ends = "%% at the end" in without
    spf.RE_INVALID_MACRO = re.compile(r"(?<!%)(?:%%)*%(?:[^{%_-]|$)") if ends else BARE_PERCENT
    q = Query(i=case["ip"], s=case["mail_from"], h=case["helo"], timeout=5)
    q.without = without
    q.t = case["now"]
    result, _, words = q.check()
    explanation = words if result == "fail" and words != spf.EXPLANATIONS["fail"] else None
    return {"result": result, "explanation": explanation, "words": words}


for line in sys.stdin:
    try:
        out = answer(json.loads(line))
    except Exception as e:  # pyspf's own failure: the caller must see it
        out = {"result": "exception", "explanation": None, "words": repr(e)}
    print(json.dumps(out), flush=True)
