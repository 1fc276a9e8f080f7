#!/usr/bin/env bash
# A base image with Python, made of Debian's packages in place of being pulled: .ci/base-image.sh [TAG]
# Needs root, debootstrap and a running engine.
set -euo pipefail
tag=${1:-facesim-base:debian}
if docker image inspect "$tag" >/dev/null 2>&1; then
  echo "$tag is here"
  exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
release=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME" || echo bookworm)
debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates "$release" "$root" >"$root.log" 2>&1 ||
  { tail -5 "$root.log"; exit 1; }
rm -f "$root.log"
tar -C "$root" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' \
  --exclude='./usr/share/locale/*' --exclude='./dev/*' -c . | docker import - "$tag" >/dev/null
echo "made $tag of Debian $release"
