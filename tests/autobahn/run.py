# Python 2, by PyPy: see scripts/autobahn.
"""Runs the cases against a server and compares the verdicts with a file.

usage: run.py URL FILE [--pin]
"""

import json
import sys
import types


def stand_in(name, **members):
    """A module that is imported and not needed: for TLS, and for reports in HTML."""
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    return module


def load():
    """The suite's client, without the rest of the suite and what that imports."""
    import pkg_resources
    import twisted.internet
    twisted.internet.ssl = stand_in("twisted.internet.ssl")
    texts = ("CSS_COMMON", "CSS_DETAIL_REPORT", "CSS_MASTER_REPORT", "JS_MASTER_REPORT")
    stand_in("autobahntestsuite.report", **dict.fromkeys(texts, ""))
    folder = pkg_resources.get_distribution("autobahntestsuite").location + "/autobahntestsuite"
    stand_in("autobahntestsuite", __path__=[folder], __file__=folder + "/__init__.py",
             version="0.8.2")
    from autobahntestsuite import fuzzing
    return fuzzing


def verdicts(url):
    fuzzing = load()
    from twisted.internet import reactor

    class Factory(fuzzing.FuzzingClientFactory):
        def createReports(self, *_):
            pass

    spec = {
        "servers": [{"agent": "pushmux", "url": url}],
        "cases": ["*"],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    }
    factory = Factory(spec)
    reactor.run()
    results = factory.agents.get("pushmux", {})
    return dict((case, [it["behavior"], it["behaviorClose"]]) for case, it in results.items())


def main():
    url, path = sys.argv[1:3]
    found = verdicts(url)
    order = lambda case: [int(part) for part in case.split(".")]
    failed = [case for case in sorted(found, key=order)
              if any(it not in ("OK", "NON-STRICT", "INFORMATIONAL") for it in found[case])]
    for case in failed:
        print("%s: %s" % (case, ", ".join(found[case])))
    counts = {}
    for behavior, _ in found.values():
        counts[behavior] = counts.get(behavior, 0) + 1
    print("%d cases: %s" % (len(found), json.dumps(counts, sort_keys=True)))
    if "--pin" in sys.argv:
        lines = ["  %s: %s" % (json.dumps(case), json.dumps(found[case]))
                 for case in sorted(found, key=order)]
        with open(path, "w") as out:
            out.write("{\n" + ",\n".join(lines) + "\n}\n")
        return bool(failed)
    with open(path) as pinned:
        expected = json.load(pinned)
    changed = [case for case in sorted(set(expected) | set(found), key=order)
               if expected.get(case) != found.get(case)]
    for case in changed:
        print("%s: %s, expected %s" % (case, found.get(case), expected.get(case)))
    return bool(failed or changed)


sys.exit(main())
