#!/bin/sh
# A Debian 11 root file system as an image for BUILDER_IMAGE, where there is no registry: build/base.sh NAME [ARCH...]
# With several architectures (amd64 arm64), NAME is a manifest list of them. One that is not this machine's is emulated
# (Debian: qemu-user-static with binfmt-support).
set -eu
name=$1
shift

[ $# -gt 0 ] || set -- "$(dpkg --print-architecture)"
[ $# -eq 1 ] || buildah rmi "$name" >/dev/null 2>&1 || true # else the list would have the old ones too

for arch; do
    root=$(mktemp -d)
    trap 'rm -rf "$root" "$root.log"' EXIT
    debootstrap --arch="$arch" --variant=minbase bullseye "$root" http://deb.debian.org/debian >"$root.log" 2>&1 || {
        tail -20 "$root.log" >&2
        exit 1
    }
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    container=$(buildah from --arch "$arch" scratch)
    buildah config --arch "$arch" "$container"
    buildah copy -q "$container" "$root" / >/dev/null
    if [ $# -gt 1 ]; then
        buildah commit -q --rm --manifest "$name" "$container"
    else
        buildah commit -q --rm "$container" "$name"
    fi
    rm -rf "$root" "$root.log"
done
