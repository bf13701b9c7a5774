"""`python -m tests.torture SEED JOB`: everything that happened to one job of a history, and what was told of it.

The variant is that of the seed in test_histories.py, or one named by its number behind JOB; `reference` behind that
plays it to the reference program.
"""

import sys

from tests.torture.adapter import Driver
from tests.torture.cluster import START, Change
from tests.torture.play import History
from tests.torture.reference import ReferenceDriver
from tests.torture.test_histories import VARIANTS, variant


def describe(change: Change) -> str:
    fields = {field: getattr(change.object, field) for field in change.object.__struct_fields__}
    hidden = ("uid", "owner", "owner_kind")
    said = {field: value for field, value in fields.items() if value not in (None, (), "") and field not in hidden}
    return f"{change.at - START:7.1f} {'gone ' if change.gone else ''}{change.uid} {said}"


def main(seed: int, uid: str, number: str = "", program: str = "") -> None:
    options, faults = VARIANTS[int(number)] if number else variant(seed)
    driver = ReferenceDriver() if program == "reference" else Driver()
    history = History(seed, options=options, faults=faults, driver=driver)
    history.run()
    for change in history.cluster.log:
        if uid in (change.uid, getattr(change.object, "owner", "")) or change.uid.startswith(f"{uid}-"):
            print(describe(change))
    for run, entries in history.shown.jobs.items():
        for entry in entries if run.partition(".")[0] in (uid, f"{uid}-cluster") else ():
            end = "" if entry.end is None else f"{entry.end - START:.0f}"
            holds = sorted(entry.macs | entry.nodes)
            print(f"{entry.at - START:7.1f} told {run} {entry.state} {entry.start - START:.0f}..{end} {holds}")
    print("heard everything:", [(first - START, last - START) for first, last in history.evidence.live])
    print(*history.judge(), sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
