#!/usr/bin/env bash
# Have a container engine with a base image, so that the tests that need one run: installs and starts Docker where that
# can be done (root, apt). Prints as its last line what came of it, and fails where there is no engine.
set -uo pipefail
here=$(dirname "$0")
quietly() { "$@" >/tmp/engine.$$ 2>&1 || { tail -3 /tmp/engine.$$; rm -f /tmp/engine.$$; return 1; }; rm -f /tmp/engine.$$; }
install() { quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }
answers() { docker info >/dev/null 2>&1; }

if ! answers; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no container engine: none answers, and none can be installed without root and apt"
    exit 1
  fi
  if ! command -v dockerd >/dev/null; then
    quietly apt-get update || true
    install docker.io iptables || { echo "no container engine: docker.io cannot be installed"; exit 1; }
  fi
  # From Debian 13 on the command is a package of its own.
  command -v docker >/dev/null || install docker-cli || { echo "no container engine: there is no docker command"; exit 1; }
  log=$(mktemp)
  nohup dockerd >"$log" 2>&1 </dev/null &
  for _ in $(seq 60); do
    answers && break
    kill -0 $! 2>/dev/null || break
    sleep 0.5
  done
  answers || { tail -3 "$log"; echo "no container engine: dockerd does not start here"; exit 1; }
fi
if ! docker image inspect facesim-base:debian >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    command -v debootstrap >/dev/null || { quietly apt-get update && install debootstrap; }
    "$here/base-image.sh" || { echo "a container engine, but no base image"; exit 1; }
  fi
fi
echo "a container engine is here"
