#!/bin/sh
# Stops and disables everything of ours, and what tells of calls.
set -u
systemctl disable --now borough.target borough-machine-metrics.timer borough-firewall-counters.timer
for unit in kamailio keepalived prometheus prometheus-node-exporter prometheus-exporter-exporter; do
  systemctl disable --now "$unit.service"
done
systemctl list-units --all --plain --no-legend 'borough*' | awk '{print $1}' | xargs --no-run-if-empty systemctl stop
# A unit that failed would be listed for ever.
systemctl reset-failed 'borough*'
# Nothing of it may run when files are measured.
[ -z "$(systemctl list-units --state=running --plain --no-legend 'borough*')" ]
