#!/bin/sh
# enter.sh ROOT FOLDER [OPTION...] CONTAINER -- PROGRAM...: buildah runs it as the kubelet would have it run with
# readOnlyRootFilesystem: in the container whose mounted root this is, as the image's user, it can write nothing there;
# FOLDER is its /tmp, from which it can run nothing. Wants `unshare -m`, and that buildah ran something there before:
# it made the places for what it mounts.
set -eu
root=$1 folder=$2
shift 2
mount --bind "$root" "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/run" # buildah keeps a file there meanwhile
mount -o remount,bind,ro "$root"
exec buildah run --isolation chroot --volume "$folder:/tmp:ro,noexec,nosuid" "$@"
