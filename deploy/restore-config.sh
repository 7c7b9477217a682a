#!/usr/bin/env bash
# Restores the backends that backup-config.sh wrote on a day: restore-config.sh 20260131
set -euo pipefail

LB_URL=${LB_URL:-http://localhost:8080}
day=${1:?usage: $0 <backup_date>}
file="backends-backup-$day.json"
authorisation=(${EVENFLOW_TOKEN:+-H "Authorization: Bearer $EVENFLOW_TOKEN"})

[ -r "$file" ] || { echo "there is no file $file in this folder" >&2; exit 1; }
answer=$(curl --fail-with-body -sS -X POST ${authorisation[@]+"${authorisation[@]}"} \
  "$LB_URL/api/v1/admin/backends/restore" -H "Content-Type: application/json" -d "@$file") ||
  { echo "backends not restored: ${answer:-no answer}" >&2; exit 1; }
echo "backends restored from $day"
