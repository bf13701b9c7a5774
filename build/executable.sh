#!/bin/sh
# Compiles cvji, in the container of build/toolchain.sh: one file to copy (/out/cvji), a folder that runs without being
# unpacked (/out/cvji.dist) and the compiler's report of what went in and why. COMMIT and SOURCE_DATE_EPOCH are given.
set -eu
cd /source

cat >cvji/build.py <<BUILD
"""Which build this is."""

COMMIT = "${COMMIT:-}"
DATE = "$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)"
BUILD

set --
# Interpreted as they are: what they do is seldom done, and to compile them costs minutes and megabytes.
for package in annotated_doc certifi charset_normalizer dateutil durationpy idna kubernetes msgspec \
    oauthlib prometheus_client requests requests_oauthlib shellingham typer \
    typing_extensions urllib3 yaml; do
    set -- "$@" "--noinclude-custom-mode=$package:bytecode"
done
# Never run.
for package in aiohttp aiohttp_retry attr attrs h2 markdown_it mypy pydantic pygments rich setuptools tzdata websocket yaml._yaml \
    kubernetes.aio kubernetes.client.api 'kubernetes.client.models.*' kubernetes.dynamic kubernetes.informer \
    kubernetes.leaderelection kubernetes.stream kubernetes.watch urllib3.contrib.emscripten \
    _pydecimal _pyio argparse asyncio cgi cgitb configparser ftplib imaplib modulefinder pickletools poplib pstats \
    tarfile tomllib trace tracemalloc webbrowser xmlrpc; do
    set -- "$@" "--nofollow-import-to=$package"
done
# Imported by name at run time, which the compiler does not see.
for module in kubernetes.client.api_client kubernetes.client.configuration shellingham.posix; do
    set -- "$@" "--include-module=$module"
done

mkdir /out
cat >/tmp/main.py <<'MAIN'
import sys

sys.path.append(sys.prefix + "/modules.zip")  # see beside.py

from cvji.cli import main

main()
MAIN
PYTHONPATH=/source /opt/packages/bin/python -m nuitka --mode=onefile --deployment --static-libpython=yes --lto=no \
    --python-flag=no_site --python-flag=isolated --python-flag=no_docstrings --file-reference-choice=runtime \
    --noinclude-unittest-mode=nofollow --noinclude-pydoc-mode=nofollow --noinclude-setuptools-mode=nofollow \
    --user-package-configuration-file=build/lazy.yml --user-plugin=build/beside.py --disable-plugin=multiprocessing \
    --progress-bar=none --quiet --report=/out/report.xml --output-dir=/tmp/nuitka --output-filename=cvji "$@" /tmp/main.py
mv /tmp/nuitka/cvji /out/cvji
mv /tmp/nuitka/main.dist /out/cvji.dist
mv /out/cvji.dist/cvji.bin /out/cvji.dist/cvji
