#!/bin/sh
# Builds with docker, podman or buildah, whichever is there (or ENGINE):
#   build/image.sh dist    into dist/: the executable as one file and as a folder, its bill of materials
#   build/image.sh image   the image [REGISTRY/]cv-job-informer:IMAGE_TAG; the tag is cvji's version if not given
# PLATFORMS=linux/amd64,linux/arm64 makes one image of several under one name (a manifest list), each on a builder of its
# own kind, or here by emulation (Debian: qemu-user-static with binfmt-support). docker keeps no such list itself: it
# is pushed at once with PUSH=true, else written to dist/image.oci.tar.
# BUILDER_IMAGE is a Debian 11 image; without a registry, build/base.sh makes one.
set -eu
cd "$(dirname "$0")/.."
target=$1

for engine in ${ENGINE:-docker podman buildah} ''; do
    if command -v "$engine" >/dev/null; then break; fi
done
[ -n "$engine" ] || { echo "build/image.sh: none of docker, podman and buildah is here" >&2; exit 1; }

for certificates in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/cert.pem /etc/ssl/cert.pem; do
    if [ -f "$certificates" ]; then break; fi
done

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' cvji/__init__.py)
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || commit=$commit-dirty
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"

case $target in
dist)
    rm -rf dist
    set -- --output type=local,dest=dist
    ;;
image)
    tag=${REGISTRY:+$REGISTRY/}cv-job-informer:${IMAGE_TAG:-$version}
    case $engine${PLATFORMS:+-list} in
    docker) set -- --tag "$tag" --load ;;
    docker-list)
        set -- --tag "$tag" --platform "$PLATFORMS"
        if [ "${PUSH:-}" = true ]; then
            set -- "$@" --push
        else
            mkdir -p dist
            set -- "$@" --output type=oci,dest=dist/image.oci.tar
        fi
        ;;
    *-list)
        "$engine" rmi "$tag" >/dev/null 2>&1 || true # else it would be added to what has this name
        set -- --manifest "$tag" --platform "$PLATFORMS"
        ;;
    *) set -- --tag "$tag" ;;
    esac
    ;;
esac
set -- "$@" --file Containerfile --target "$target" --secret "id=certificates,src=$certificates" \
    --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH"
[ -z "${BUILDER_IMAGE:-}" ] || set -- "$@" --build-arg "BUILDER_IMAGE=$BUILDER_IMAGE"

case $engine in
docker) exec docker buildx build --provenance=false "$@" . ;;
*) exec "$engine" build --layers --timestamp "$SOURCE_DATE_EPOCH" "$@" . ;;
esac
