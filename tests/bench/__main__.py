"""`just bench [NAME...] [--json FILE]`: memory, CPU, latency and rates of the real program, as a table.

`just bench churn --rate 500 --seconds 300 --pods 50000`. The informer is a process of its own, measured through /proc;
so are the simulators of large clusters. A further figure is a further function in a module imported here, with
@bench, that yields rows.
"""

import argparse
import inspect
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.bench import churn, clusters, informer, initial, real, records, sending  # noqa: F401  they register themselves
from tests.bench.figures import BENCHES, Row, table


def main() -> int:
    """Run the named benches, or all. Exit code 1 if a figure misses its limit."""
    parser = argparse.ArgumentParser(prog="just bench", description="Measure the real program.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; all without")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too; - for the output, without the table")
    for name, kind in (("rate", float), ("seconds", float), ("pods", int)):
        parser.add_argument(f"--{name}", type=kind, help="of churn; --pods of real_8000 and initial_list")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in BENCHES]:
        parser.error(f"no bench {', '.join(unknown)}: there are {', '.join(BENCHES)}")
    rows: list[Row] = []
    for name in given.names or BENCHES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        known = set(inspect.signature(BENCHES[name]).parameters)
        options = {key: value for key, value in vars(given).items() if key in known and value is not None}
        with tempfile.TemporaryDirectory(prefix="cvji-bench-") as folder:
            for row in BENCHES[name](Path(folder), **options):
                rows.append(row)
                print(f"  {row.subject}: {row.figure}: {row.value:.4g} {row.unit} {row.note}", file=sys.stderr)
    if given.json:
        text = json.dumps([{**msgspec.to_builtins(row), "kept": row.kept} for row in rows], indent=1) + "\n"
        sys.stdout.write(text) if given.json == "-" else Path(given.json).write_text(text)
    if given.json != "-":
        load = " ".join(f"{part:.2f}" for part in os.getloadavg())
        print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}\n")
        print("\n".join(table(rows)))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
