#!/bin/sh
# enter.sh ROOT FOLDER PROGRAM...: as the kubelet would with readOnlyRootFilesystem and runAsUser: the program runs as
# 65532 in ROOT, in which it can write nothing; FOLDER is its /tmp, from which it can run nothing. Wants `unshare -m`.
set -eu
root=$1 folder=$2
shift 2
mkdir -p "$root/proc" "$root/sys" "$root/dev"
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --bind "$folder" "$root/tmp"
mount -o remount,bind,ro,noexec,nosuid "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot --userspec=65532:65532 --groups= "$root" "$@"
