#!/bin/sh
# What the image holds besides the executable, in /rootfs: of Debian 13's newest packages the C library, its unwinder
# (glibc ends threads with it), CA certificates and time zones; users. No shell, no package manager, no program at all.
set -eu

rm -f /etc/apt/sources.list.d/*
cat >/etc/apt/sources.list <<'LIST'
deb http://deb.debian.org/debian trixie main
deb http://deb.debian.org/debian-security trixie-security main
LIST
apt-get update -qq
mkdir -p /tmp/packages && cd /tmp/packages
# A mirror may list a security update that it does not have yet; the point release is the next best.
for package in ca-certificates libc6 libgcc-s1 tzdata; do
    apt-get download -qq "$package" 2>/dev/null || apt-get download -qq "$package/trixie"
done

root=/rootfs
mkdir -p $root/usr/lib $root/usr/lib64 $root/etc $root/var/lib/dpkg/status.d
ln -s usr/lib $root/lib
ln -s usr/lib64 $root/lib64
for deb in ./*.deb; do
    dpkg-deb -x "$deb" $root
    # Where scanners look for the packages of an image without dpkg.
    dpkg-deb -f "$deb" >"$root/var/lib/dpkg/status.d/$(dpkg-deb -f "$deb" Package)"
done
cat $root/usr/share/ca-certificates/mozilla/*.crt >$root/etc/ssl/certs/ca-certificates.crt
ln -s certs/ca-certificates.crt $root/etc/ssl/cert.pem # where OpenSSL looks
rm -rf $root/etc/ca-certificates $root/etc/ld.so.conf.d $root/usr/sbin $root/usr/share/ca-certificates \
    $root/usr/share/lintian $root/usr/share/man $root/usr/lib/*/gconv $root/usr/lib/*/audit
find $root/usr/share/doc ! -type d ! -name copyright -delete
find $root/usr/share/doc -type d -empty -delete

cat >$root/etc/passwd <<'PASSWD'
root:x:0:0:root:/nonexistent:/nonexistent
nonroot:x:65532:65532:nonroot:/nonexistent:/nonexistent
PASSWD
cat >$root/etc/group <<'GROUP'
root:x:0:
nonroot:x:65532:
GROUP
echo 'hosts: files dns' >$root/etc/nsswitch.conf
mkdir -m 1777 $root/tmp
