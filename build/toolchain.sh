#!/bin/sh
# On Debian 11, whose glibc 2.31 is the oldest that the executable is to run on: a C compiler, and an OpenSSL and a
# Python that Debian 12 still mends, built from its sources. Leaves Python in /opt/python, uv, and no sources behind.
set -eu

export DEBIAN_FRONTEND=noninteractive
export PIP_CERT=/run/certificates.pem
apt-get update -qq
apt-get install -qqy --no-install-recommends \
    ca-certificates ccache dpkg-dev gcc libc6-dev libffi-dev make patchelf python3-pip xz-utils zlib1g-dev >/dev/null

cat >/etc/apt/sources.list.d/sources.list <<'LIST'
deb-src http://deb.debian.org/debian bookworm main
deb-src http://deb.debian.org/debian-security bookworm-security main
LIST
apt-get update -qq
mkdir -p /tmp/sources && cd /tmp/sources
# A mirror may list a security update that it does not have yet; the point release is the next best.
for source in openssl python3.11; do
    apt-get source -qq "$source" >/dev/null 2>&1 || apt-get source -qq "$source/bookworm" >/dev/null
done

cd /tmp/sources/openssl-*/
./Configure linux-x86_64 --prefix=/opt/openssl --libdir=lib --openssldir=/etc/ssl \
    no-tests no-legacy no-engine no-comp no-ssl3 -O2 >/dev/null
make -s -j"$(nproc)" build_libs >/dev/null
make -s install_dev >/dev/null

cd /tmp/sources/python3.11-*/
# Static: the interpreter becomes part of the executable. The modules that are left out are not used and want libraries.
./configure -q --prefix=/opt/python --with-openssl=/opt/openssl --with-openssl-rpath=auto --without-doc-strings \
    --disable-test-modules --without-ensurepip CFLAGS=-O2 >/dev/null
make -s -j"$(nproc)" >/tmp/python.log 2>&1 || { tail -30 /tmp/python.log; exit 1; }
make -s install >/dev/null 2>&1
/opt/python/bin/python3 -c 'import ssl, zlib, select, ctypes; print(ssl.OPENSSL_VERSION)'

# For the SBOM: name and version of each source package.
sed -n -e 's/^Source: //p' -e 's/^Version: //p' /tmp/sources/*.dsc | paste -sd ' \n' >/opt/sources.txt
cat /opt/sources.txt

/usr/bin/python3 -m pip -q install --target /opt/uv uv
rm -rf /tmp/sources /tmp/python.log /var/lib/apt/lists/* /etc/apt/sources.list.d/sources.list
