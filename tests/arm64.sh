#!/bin/sh
# The program and the tests that read sysfs, on the arm64 interpreter of Debian 12, which qemu emulates. Nothing is
# installed but into a cache. Needs Debian's apt and qemu-user-static, and uv.
set -eu
cd "$(dirname "$0")/.."
root=${CVJI_CACHE:-$HOME/.cache/cvji}/arm64
mkdir -p "$root/apt/lists/partial" "$root/debs"

if [ ! -x "$root/usr/bin/python3.11" ]; then
    echo 'deb [arch=arm64] http://deb.debian.org/debian bookworm main' >"$root/apt/sources.list"
    apt() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
            -o Dir::Etc::SourceList="$root/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::State="$root/apt" -o Dir::State::Status=/dev/null -o Dir::Cache="$root/apt" "$@"
    }
    apt update
    (cd "$root/debs" && apt download libc6 libgcc-s1 libstdc++6 zlib1g libssl3 libexpat1 libffi8 libbz2-1.0 liblzma5 \
        libuuid1 libsqlite3-0 libpython3.11-minimal libpython3.11-stdlib python3.11-minimal)
    for deb in "$root"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
fi
# What uv.lock has, as wheels for arm64.
uv export -q --frozen --no-emit-project --extra cluster --no-hashes --no-annotate --format requirements-txt |
    grep -v -E '^(mypy|ruff|nuitka|import-linter|grimp|ast-serialize|librt)==' >"$root/requirements.txt"
uv pip install -q --target "$root/packages" --python-platform aarch64-manylinux_2_36 --python-version 3.11 \
    --only-binary :all: --no-deps -r "$root/requirements.txt"

export PYTHONHOME="$root/usr" PYTHONPATH="$PWD:$root/packages" PYTHONDONTWRITEBYTECODE=1
python() { qemu-aarch64-static -L "$root" "$root/usr/bin/python3.11" "$@"; }

python -c 'import platform; print(platform.machine(), platform.python_version())'
python -c 'from cvji.cli import main; main()' --version
python -c 'from cvji.cli import main; main()' discover --once
# What takes how long says nothing of an emulated machine.
python -m pytest -q -p no:cacheprovider -rs --deselect \
    tests/sysfs/test_scan.py::test_every_vf_of_a_large_node_is_read_in_under_100_milliseconds tests/sysfs "$@"
