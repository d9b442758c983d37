"""pyspf over a DNS that comes with each question: one JSON object per line in, one out.

"without" names habits of pyspf to leave out, so that the caller learns whether a difference comes
from one of them. Each answer says what pyspf stumbled over, so that the caller can tell which habit
that is: "problem" in pyspf's words, "mech" the term of it, "voids" what was counted for each void
answer, "failed" the question that failed and what it was for, "kept" whether a delimiter was kept.
"""
import json
import re
import sys

import spf

BARE_PERCENT = spf.RE_INVALID_MACRO
EXPAND_ONE = spf.expand_one
TWICE = re.compile(r"(?!(?:exp|redirect)=).*= MUST appear at most once", re.I)


class Query(spf.query):
    def begin(self, without, failing, asked):
        self.without, self.failing, self.asked = without, failing, asked
        # What addresses are asked for: those of MX hosts or those of the client's names.
        self.inside = None
        self.voids, self.failed, self.kept, self.names_asked = [], None, False, False

    def dns_mx(self, name):
        return self.within("MX hosts", spf.query.dns_mx, name)

    def validated_ptrs(self):
        return self.within("client names", spf.query.validated_ptrs)

    def within(self, what, call, *args):
        outside, self.inside = self.inside, what
        try:
            return call(self, *args)
        finally:
            self.inside = outside

    def dns(self, name, kind, cnames=None, ignore_void=False):
        behind = self.inside if kind in ("A", "AAAA") else None
        why = behind or ("client names" if kind == "PTR" else "term")
        name = name.lower()
        if name in self.failing:
            asked = [name, kind, why] in self.asked
            if self.excused(why, asked):
                return []
            self.failed = {"name": name, "kind": kind, "why": why, "asked": asked}
        again = kind == "PTR" and self.names_asked
        self.names_asked |= kind == "PTR"
        counted = behind or ("again" if again else "term")
        ignored = "void " + counted in self.without
        before = self.void_lookups
        try:
            return spf.query.dns(self, name, kind, cnames, ignore_void or ignored)
        finally:
            if self.void_lookups > before:
                self.voids.append(counted)

    def excused(self, why, asked):
        """Whether an error here is one of a habit that is left out."""
        if why == "client names":
            habit = "errors of client names" if asked else "errors of client names not reached"
        elif why == "MX hosts" and not asked:
            habit = "errors of further MX hosts"
        else:
            return False
        return habit in self.without

    def note_error(self, *msg):
        if "modifiers twice" in self.without and TWICE.fullmatch(msg[0]):
            return None
        return spf.query.note_error(self, *msg)

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

    def text(record):
        if "case of modifiers" in without:
            record = re.sub(r" (redirect|exp)=", lambda m: m[0].lower(), record, flags=re.I)
        if "zero parts" in without:
            record = record.replace("%{d0}", "%{y}")
        return record

    def lookup(name, kind, *_):
        name = name.lower()
        if name in failing:
            raise spf.TempError("DNS %s %s" % (name, kind))
        data = dns.get(name, {}).get(kind, [])
        if kind == "TXT":
            data = [[text(t).encode()] for t in data]
        if kind == "MX":
            data = [(p, h) for p, h in data]
        return [((name, kind), d) for d in data]

    def expand_one(expansion, transform, joiner):
        kept = EXPAND_ONE(expansion, transform, joiner)
        dots = EXPAND_ONE(expansion, transform, ".")
        q.kept |= kept != dots
        return dots if "delimiters kept" in without else kept

    spf.DNSLookup = lookup
    spf.expand_one = expand_one
    ends = "%% at the end" in without
    spf.RE_INVALID_MACRO = re.compile(r"(?<!%)(?:%%)*%(?:[^{%_-]|$)") if ends else BARE_PERCENT
    q = Query(i=case["ip"], s=case["mail_from"], h=case["helo"], timeout=5)
    q.begin(without, failing, case["asked"])
    q.t = case["now"]
    result, _, words = q.check()
    explanation = words if result == "fail" and words != spf.EXPLANATIONS["fail"] else None
    return {
        "result": result,
        "explanation": explanation,
        "problem": getattr(q, "prob", None),
        "mech": " ".join(q.mech),
        "voids": q.voids,
        "failed": q.failed if result == "temperror" else None,
        "kept": q.kept,
    }


for line in sys.stdin:
    try:
        out = answer(json.loads(line))
    except Exception as e:  # pyspf's own failure: the caller must see it
        out = {"result": "exception", "explanation": None, "problem": repr(e)}
    print(json.dumps(out), flush=True)
