# Tools that `pip install --target .tools` put here come first; everything else comes from uv.lock.
export PATH := justfile_directory() / ".tools/bin" + ":" + env("PATH")
run := "uv run --frozen -q"

# what there is to do
help:
    @just --list --unsorted

# the informer between a simulated cluster and a simulated CloudVision, in a live table
demo:
    @{{run}} python -m tests.demo

# every check and test that needs nothing but this machine
test *ARGS: lint
    {{run}} pytest -n auto {{ARGS}}

# the tests against a real kube-apiserver: built with Go, or yours in CVJI_TEST_KUBECONFIG
test-cluster *ARGS:
    {{run}} pytest -m cluster {{ARGS}}

# long histories: CVJI_HISTORIES=N of them (1,000 without), and simulated days
test-torture *ARGS:
    CVJI_HISTORIES=${CVJI_HISTORIES:-1000} {{run}} pytest tests/torture -m "torture or not torture" -n auto {{ARGS}}

# memory, CPU, latency and rates, as a table; all of them or those named
bench *ARGS:
    @{{run}} python -m tests.bench {{ARGS}}

# format, lint, types, floors
lint:
    {{run}} ruff format --check -q .
    {{run}} ruff check -q .
    {{run}} mypy --no-error-summary
    {{run}} lint-imports --no-logo

# put the code into the project's format
fmt:
    {{run}} ruff format .
    {{run}} ruff check --fix .
