#!/usr/bin/env bash
# Restores the backends that backup-config.sh wrote on a day: restore-config.sh 20260131
set -euo pipefail

LB_URL=${LB_URL:-http://localhost:8080}
day=${1:?usage: $0 <backup_date>}
authorisation=(${EVENFLOW_TOKEN:+-H "Authorization: Bearer $EVENFLOW_TOKEN"})

curl -fsS -X POST ${authorisation[@]+"${authorisation[@]}"} "$LB_URL/api/v1/admin/backends/restore" \
  -H "Content-Type: application/json" -d "@backends-backup-$day.json" >/dev/null
echo "backends restored from $day"
