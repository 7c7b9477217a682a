#!/usr/bin/env bash
# Replaces the program on one backend after the other without losing a request: drain, wait until
# empty, update, wait until it answers, take it back.
#
#   rolling-update.sh VERSION SERVER...
#
# LB_URL names the balancer, EVENFLOW_TOKEN authorises; each SERVER is a backend's id and host name.
set -euo pipefail

LB_URL=${LB_URL:-http://localhost:8080}
PORT=${PORT:-8080}
version=${1:?usage: $0 VERSION SERVER...}
shift

api() {
  local method=$1 path=$2
  shift 2
  curl --fail-with-body --silent --show-error -X "$method" "$LB_URL/api/v1/admin/$path" \
    -H "Content-Type: application/json" ${EVENFLOW_TOKEN:+-H "Authorization: Bearer $EVENFLOW_TOKEN"} "$@"
}

for server in "$@"; do
  echo "updating $server"

  # 1. No new requests for it; the answer says when the last one is done.
  for _ in $(seq 60); do
    api POST "backends/$server/drain" | grep -q '"empty": *true' && break
    sleep 1
  done

  # 2. The new version.
  ssh "$server" "docker pull myapp:$version && docker rm -f myapp; docker run -d --name myapp -p $PORT:$PORT myapp:$version"

  # 3. Only what answers is taken back.
  for _ in $(seq 60); do
    curl --fail --silent --output /dev/null "http://$server:$PORT/health" && break
    sleep 1
  done
  api PATCH "backends/$server" -d '{"drain": false}' >/dev/null

  echo "$server runs $version"
done
