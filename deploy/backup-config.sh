#!/usr/bin/env bash
# Writes the configuration and the backends of a running balancer to two dated files. If one of them
# cannot be read, neither file is written.
set -euo pipefail

LB_URL=${LB_URL:-http://localhost:8080}
day=$(date +%Y%m%d)
authorisation=(${EVENFLOW_TOKEN:+-H "Authorization: Bearer $EVENFLOW_TOKEN"})
trap 'rm -f ".config-backup-$day.part" ".backends-backup-$day.part"' EXIT

fetch() {
  curl --fail-with-body -sS ${authorisation[@]+"${authorisation[@]}"} -o "$2" "$LB_URL/api/v1/admin/$1" ||
    { echo "no backup written: $(cat "$2" 2>/dev/null)" >&2; exit 1; }
}

fetch config ".config-backup-$day.part"
fetch backends ".backends-backup-$day.part"
mv ".config-backup-$day.part" "config-backup-$day.json"
mv ".backends-backup-$day.part" "backends-backup-$day.json"
echo "written: config-backup-$day.json backends-backup-$day.json"
