# Tools that `pip install --target .tools` put here come first; everything else comes from uv.lock.
export PATH := justfile_directory() / ".tools/bin" + ":" + env("PATH")
run := "uv run --frozen -q"
# The standard library is all that it needs.
deployment := "PYTHONPATH=" + quote(justfile_directory() / "manifests") + " python3 -Bu -m deploy"

# what there is to do, and the variables of deploy
help:
    @just --list --unsorted
    @echo
    @{{deployment}} help

# the informer between a simulated cluster and a simulated CloudVision, in a live table
[no-exit-message]
demo:
    @{{run}} python -m tests.demo

# every check and test that needs nothing but this machine
test *ARGS: lint
    {{run}} pytest -n auto --maxschedchunk 2 {{ARGS}}

# the tests against a real kube-apiserver: built with Go, or yours in CVJI_TEST_KUBECONFIG
test-cluster *ARGS:
    {{run}} pytest -m cluster {{ARGS}}

# the program and the tests of sysfs on arm64, by qemu's emulation; needs Debian's qemu-user-static
test-arm64 *ARGS:
    tests/arm64.sh {{ARGS}}

# long histories: CVJI_HISTORIES=N of them (1,000 without), N/50 of the real program, and simulated days; random examples
test-torture *ARGS:
    {{run}} pytest -m "hypothesis and not cluster" --hypothesis-profile explore -n auto
    CVJI_HISTORIES=${CVJI_HISTORIES:-1000} {{run}} pytest tests/torture -m "not cluster" -n 4 --dist worksteal {{ARGS}}

# memory, CPU, latency and rates, as a table; all of them or those named
bench *ARGS:
    @{{run}} python -m tests.bench {{ARGS}}

# format, lint, types, layers
lint:
    {{run}} ruff format --check -q .
    {{run}} ruff check -q .
    {{run}} mypy --no-error-summary
    {{run}} mypy --no-error-summary manifests/deploy
    {{run}} lint-imports --no-logo

# put the code into the project's format
fmt:
    {{run}} ruff format .
    {{run}} ruff check --fix .

# build the image and run both workloads in the cluster; needs API_SERVER, API_TOKEN and LOCATION
[no-exit-message, positional-arguments]
deploy *SETTINGS:
    @{{deployment}} deploy "$@"

# print the chart as YAML, with the settings of deploy, for those without Helm
[no-exit-message, positional-arguments]
manifests *SETTINGS:
    @{{deployment}} manifests "$@"

# remove all of it; crd=true: the CRDs NodeInterfaceState, JobReport and NodeReport too
[no-exit-message, positional-arguments]
delete *SETTINGS:
    @{{deployment}} delete "$@"

# what runs, where, which informer is the leader; COMPONENT=job|node here and below
[no-exit-message, positional-arguments]
status *SETTINGS:
    @{{deployment}} status "$@"

# what the pods wrote; TAIL=100, FOLLOW=true
[no-exit-message, positional-arguments]
logs *SETTINGS:
    @{{deployment}} logs "$@"

# replace the pods, one after another
[no-exit-message, positional-arguments]
restart *SETTINGS:
    @{{deployment}} restart "$@"

# workloads, pods and their events in full
[no-exit-message, positional-arguments]
describe *SETTINGS:
    @{{deployment}} describe "$@"

# dist/: the executable as one file, and as a folder that needs no unpacking, with its bill of materials
build:
    build/image.sh dist

# the image [REGISTRY/]cv-job-informer:IMAGE_TAG, by docker, podman or buildah; PLATFORMS=linux/amd64,linux/arm64
[positional-arguments]
image *SETTINGS:
    env "$@" build/image.sh image

# dist/release/ of VERSION: chart, YAML, executable, image, bill of materials, checksums; docs/releasing.md
release VERSION:
    {{run}} python -B build/release.py "{{VERSION}}"

# the end-to-end tests and the roles with the executable of `just build`, and the image of `just image` from the inside; needs root
test-executable *ARGS:
    CVJI_EXECUTABLE={{justfile_directory()}}/dist/cvji.dist/cvji {{run}} pytest tests/e2e -n auto {{ARGS}}
    CVJI_EXECUTABLE={{justfile_directory()}}/dist/cvji.dist/cvji {{run}} pytest tests/deploy/test_roles.py tests/deploy/test_roles_tight.py tests/e2e/test_explain.py -m cluster
    {{run}} pytest tests/executable -m executable
