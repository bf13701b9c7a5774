#!/bin/sh
# Puts the executable into the image's root file system, and writes the bill of materials of both.
set -eu

cp -a /out/cvji.dist /rootfs/usr/lib/cvji
mkdir -p /rootfs/usr/bin
ln -s ../lib/cvji/cvji /rootfs/usr/bin/cvji # for `kubectl exec`
/usr/bin/python3 /source/build/sbom.py /out/report.xml /opt/packages/lib/python3.11/site-packages \
    /opt/sources.txt /rootfs/var/lib/dpkg/status.d "$VERSION" \
    "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" >/out/sbom.json
# The same content is the same image, whenever it is made.
find /rootfs /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
