"""`just bench [NAME...]`: memory, CPU, latency and rates of the real program, as a table.

The informer is a process of its own, measured through /proc; the simulators run in this one. A further figure
is a further function in a module imported here, with @bench, that yields rows.
"""

import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench import informer, records, sending  # noqa: F401  they register themselves
from tests.bench.figures import BENCHES, Row, table


def main() -> int:
    """Run the named benches, or all. Exit code 1 if a figure misses its limit."""
    wanted = sys.argv[1:] or list(BENCHES)
    if unknown := [name for name in wanted if name not in BENCHES]:
        print(f"no bench {', '.join(unknown)}: there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in wanted:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="cvji-bench-") as folder:
            rows += BENCHES[name](Path(folder))
    load = " ".join(f"{part:.2f}" for part in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}\n")
    print("\n".join(table(rows)))
    if file := os.environ.get("BENCH_JSON"):
        values = [{"subject": row.subject, "figure": row.figure, "value": row.value, "unit": row.unit} for row in rows]
        Path(file).write_text(json.dumps(values, indent=1) + "\n")
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
