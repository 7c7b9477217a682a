#!/usr/bin/env bash
# Updates the program on one backend after the other without losing a request: drain the backend, wait
# until it has no request in flight, update it, wait until it responds, enable it again.
#
#   rolling-update.sh VERSION SERVER...
#
# Each SERVER is both the id and the host name of a backend. The script stops at the first failure. A
# backend that was not updated is enabled again; one whose update failed stays drained.
#
#   LB_URL            the balancer (default http://localhost:8080)
#   EVENFLOW_TOKEN    a token with role operate, if the balancer is not on this machine
#   PORT              the port of the program (default 8080)
#   DRAIN_SECONDS     how long to wait for requests in flight (default 60)
#   START_SECONDS     how long to wait for the new version to respond (default 60)
set -euo pipefail

LB_URL=${LB_URL:-http://localhost:8080}
PORT=${PORT:-8080}
DRAIN_SECONDS=${DRAIN_SECONDS:-60}
START_SECONDS=${START_SECONDS:-60}
version=${1:?usage: $0 VERSION SERVER...}
shift
(($#)) || { echo "usage: $0 VERSION SERVER..." >&2; exit 2; }

api() {
  local method=$1 path=$2
  shift 2
  curl --fail-with-body --silent --show-error -X "$method" "$LB_URL/api/v1/admin/$path" \
    -H "Content-Type: application/json" ${EVENFLOW_TOKEN:+-H "Authorization: Bearer $EVENFLOW_TOKEN"} "$@"
}

fail() {
  echo "$*" >&2
  exit 1
}

# Prints the answer of the API where it is an error, which names the reason.
change() {
  local answer
  answer=$(api "$@") || fail "the balancer refused: ${answer:-no answer}"
  printf '%s' "$answer"
}

for server in "$@"; do
  change GET "backends/$server" >/dev/null
done

for server in "$@"; do
  echo "updating $server"

  # 1. No new requests; the answer says whether requests are still in flight.
  drained=no
  for ((second = 0; second <= DRAIN_SECONDS; second++)); do
    answer=$(change POST "backends/$server/drain")
    if grep -q '"empty": *true' <<<"$answer"; then
      drained=yes
      break
    fi
    sleep 1
  done
  if [ "$drained" = no ]; then
    change PATCH "backends/$server" -d '{"drain": false}' >/dev/null
    fail "$server still has requests in flight after $DRAIN_SECONDS s; it was not updated and is enabled again: $answer"
  fi

  # 2. The new version. Nothing is stopped before the image is there.
  if ! ssh "$server" "docker pull myapp:$version"; then
    change PATCH "backends/$server" -d '{"drain": false}' >/dev/null
    fail "$server cannot pull myapp:$version; it was not updated and is enabled again"
  fi
  ssh "$server" "docker rm -f myapp; docker run -d --name myapp -p $PORT:$PORT myapp:$version" ||
    fail "$server could not start myapp:$version; it stays drained"

  # 3. Only a backend that responds is enabled again.
  started=no
  for ((second = 0; second <= START_SECONDS; second++)); do
    if curl --fail --silent --max-time 5 --output /dev/null "http://$server:$PORT/health"; then
      started=yes
      break
    fi
    sleep 1
  done
  [ "$started" = yes ] || fail "$server does not respond at http://$server:$PORT/health after $START_SECONDS s; it stays drained"
  change PATCH "backends/$server" -d '{"drain": false}' >/dev/null

  echo "$server runs $version"
done
