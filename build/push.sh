#!/bin/sh
# Pushes REGISTRY/cv-job-informer:IMAGE_TAG by whichever of docker, podman and buildah holds it (or ENGINE), and prints
# its digest: the very bytes, whatever the tag says later. With PLATFORMS, the list of them all.
set -eu
cd "$(dirname "$0")/.."
image=$REGISTRY/cv-job-informer
reference=$image:${IMAGE_TAG:-$(sed -n 's/^__version__ = "\(.*\)"/\1/p' cvji/__init__.py)}

has_image() { # ENGINE
    case $1${PLATFORMS:+-list} in
    docker-list) docker buildx imagetools inspect "$reference" >/dev/null 2>&1 ;; # build/image.sh has pushed it
    *-list) "$1" manifest inspect "$reference" >/dev/null 2>&1 ;;
    buildah) buildah inspect --type image "$reference" >/dev/null 2>&1 ;;
    *) "$1" image inspect "$reference" >/dev/null 2>&1 ;;
    esac
}

for engine in ${ENGINE:-docker podman buildah} ''; do
    if [ -n "$engine" ] && command -v "$engine" >/dev/null && has_image "$engine"; then break; fi
done
[ -n "$engine" ] || { echo "none of docker, podman and buildah holds $reference" >&2; exit 1; }

digest=$(mktemp)
trap 'rm -f "$digest"' EXIT
case $engine${PLATFORMS:+-list} in
docker)
    docker push "$reference" >&2
    docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$reference" |
        sed -n "s|^$image@||p" | head -n 1 >"$digest"
    ;;
docker-list) docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$reference" >"$digest" ;;
*-list) "$engine" manifest push --all --digestfile "$digest" "$reference" "docker://$reference" >&2 ;;
*) "$engine" push --digestfile "$digest" "$reference" "docker://$reference" >&2 ;;
esac
# buildah 1.28 says nothing and ends with 0 when it could not push a list.
[ -s "$digest" ] || { echo "$engine did not push $reference" >&2; exit 1; }
cat "$digest"
