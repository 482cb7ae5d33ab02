#!/bin/sh
# Overwrites and removes every file below the folders given.
set -u
for folder in "$@"; do
  [ ! -d "$folder" ] || find "$folder" -xdev -type f -print0
done | xargs --null --no-run-if-empty shred --iterations=3 --zero --remove
