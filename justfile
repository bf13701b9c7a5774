# Tools that `pip install --target .tools` put here come first; everything else comes from uv.lock.
export PATH := justfile_directory() / ".tools/bin" + ":" + env("PATH")
export PYTHONPATH := ""
run := "uv run --frozen -q"

# what there is to do
help:
    @just --list --unsorted

# every check and test of the working tree
test *ARGS: lint
    {{run}} pytest -n auto {{ARGS}}

# format, lint, types, floors
lint:
    {{run}} ruff format --check .
    {{run}} ruff check .
    {{run}} mypy
    {{run}} lint-imports

# put the code into the project's format
fmt:
    {{run}} ruff format .
    {{run}} ruff check --fix .
