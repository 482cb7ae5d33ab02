#!/bin/sh
# Moves what was restored to where the services look. Keys first: records without them would be given new ones.
set -eu
restored=/var/lib/borough/restored keys=/var/lib/borough/keys records=/var/lib/borough/records
cd "$restored"
if [ -d keys ]; then
  rsync --archive --remove-source-files keys/ "$keys/"
  rm -r keys
fi
rsync --archive --remove-source-files ./ "$records/"
chown --recursive borough-calls:borough-records "$keys" "$records"
chmod --recursive u=rwX,g=rwX,o= "$keys" "$records"
chmod g+s "$keys" "$records"
ledger=/var/lib/borough/sync/rollups.db
for file in "$ledger" "$ledger-wal" "$ledger-shm"; do
  [ ! -e "$file" ] || chown borough-agent:borough-records "$file"
done
cd /
rm -r "$restored"
