#!/bin/sh
# A Debian 11 root file system as an image for BUILDER_IMAGE, where there is no registry: build/base.sh NAME
set -eu

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase bullseye "$root" http://deb.debian.org/debian >"$root.log" 2>&1 || {
    tail -20 "$root.log" >&2
    exit 1
}
rm -rf "$root.log" "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
container=$(buildah from scratch)
buildah copy -q "$container" "$root" / >/dev/null
buildah commit -q --rm "$container" "$1"
