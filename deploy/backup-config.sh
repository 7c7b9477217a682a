#!/usr/bin/env bash
# Writes the configuration and the backends of a running balancer to two dated files.
set -euo pipefail

LB_URL=${LB_URL:-http://localhost:8080}
day=$(date +%Y%m%d)
authorisation=(${EVENFLOW_TOKEN:+-H "Authorization: Bearer $EVENFLOW_TOKEN"})

curl -fsS ${authorisation[@]+"${authorisation[@]}"} "$LB_URL/api/v1/admin/config" >"config-backup-$day.json"
curl -fsS ${authorisation[@]+"${authorisation[@]}"} "$LB_URL/api/v1/admin/backends" >"backends-backup-$day.json"
echo "written: config-backup-$day.json backends-backup-$day.json"
