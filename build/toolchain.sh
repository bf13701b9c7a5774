#!/bin/sh
# On Debian 11, whose glibc 2.31 is the oldest that the executable is to run on: a C compiler, and an OpenSSL, a zlib
# and a Python that Debian 12 still mends, built from its sources. Leaves Python in /opt/python, uv in /opt/uv, the
# sources' versions in /opt/sources.txt, and no sources behind.
set -eu
export DEBIAN_FRONTEND=noninteractive PIP_CERT=/run/certificates.pem

apt-get update -qq
apt-get install -qqy --no-install-recommends \
    ca-certificates ccache dpkg-dev gcc libc6-dev libffi-dev make patchelf python3-pip xz-utils >/dev/null

cat >/etc/apt/sources.list.d/sources.list <<'LIST'
deb-src http://deb.debian.org/debian bookworm main
deb-src http://deb.debian.org/debian-security bookworm-security main
LIST
apt-get update -qq
mkdir -p /tmp/sources && cd /tmp/sources
# A mirror may list a security update that it does not have yet; the point release is the next best.
for source in openssl python3.11 zlib; do
    apt-get source -qq "$source" >/dev/null 2>&1 || apt-get source -qq "$source/bookworm" >/dev/null
done
# For the SBOM.
sed -n -e 's/^Source: //p' -e 's/^Version: //p' ./*.dsc | paste -sd ' \n' >/opt/sources.txt
cat /opt/sources.txt

# Both OpenSSL and Python say when they were built. The same sources are the same bytes, whenever they are built.
dated() {
    SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -S Timestamp)
    export SOURCE_DATE_EPOCH
}

cd /tmp/sources/openssl-*/
dated
./Configure "linux-$(uname -m)" --prefix=/opt/openssl --libdir=lib --openssldir=/etc/ssl \
    no-tests no-legacy no-engine no-comp no-ssl3 -O2 >/dev/null
make -s -j"$(nproc)" build_libs >/dev/null
make -s install_dev >/dev/null

# Linked into Python: the compiler takes it that every machine has a zlib, and the image has none.
cd /tmp/sources/zlib-*/
CFLAGS="-O3 -fPIC" ./configure --static --prefix=/opt/zlib >/dev/null
make -s -j"$(nproc)" libz.a >/dev/null
make -s install >/dev/null

cd /tmp/sources/python3.11-*/
dated
# Static: the interpreter becomes part of the executable. The modules that are left out are not used and want libraries.
./configure -q --prefix=/opt/python --with-openssl=/opt/openssl --with-openssl-rpath=auto --without-doc-strings \
    --disable-test-modules --without-ensurepip CFLAGS=-g0 \
    ZLIB_CFLAGS=-I/opt/zlib/include ZLIB_LIBS="-L/opt/zlib/lib -lz" >/dev/null 2>&1
make -s -j"$(nproc)" >/tmp/python.log 2>&1 || { tail -30 /tmp/python.log; exit 1; }
make -s install >/dev/null 2>&1
/opt/python/bin/python3 -c 'import ssl, zlib, select, ctypes; print(ssl.OPENSSL_VERSION, zlib.ZLIB_RUNTIME_VERSION)'

/usr/bin/python3 -m pip -q install --target /opt/uv uv
rm -rf /tmp/sources /tmp/python.log /var/lib/apt/lists/* /etc/apt/sources.list.d/sources.list
