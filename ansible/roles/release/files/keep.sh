#!/bin/sh
# Keeps in the archive $1 what has the release in use run: the links that name it, units, settings. put_back.sh reads it.
# BOROUGH_ROOT: where the machine's files lie; set in tests only.
set -eu
umask 077
cd "${BOROUGH_ROOT:-}/"
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for path in etc/systemd/system/borough*.service etc/systemd/system/borough*.timer etc/systemd/system/borough*.path \
  etc/systemd/system/borough*.target etc/systemd/system/*.service.d/borough.conf etc/systemd/system/*.wants/borough* \
  etc/borough/node.toml etc/borough/rendered etc/sysusers.d/borough.conf etc/tmpfiles.d/borough.conf \
  etc/default/prometheus* etc/keepalived etc/kamailio etc/nftables.conf etc/prometheus usr/local/lib/borough \
  opt/borough/current var/lib/borough/models var/lib/borough/images/asterisk; do
  if [ -e "$path" ] || [ -L "$path" ]; then echo "$path"; fi
done >"$list"
tar --create --file "$1.new" --files-from "$list"
mv "$1.new" "$1"
