#!/bin/sh
# Keeps the release in use ($1) and the one before it, for a rollback, with their files; prints what it removes.
# BOROUGH_ROOT: where the machine's files lie; set in tests only.
set -eu
root=${BOROUGH_ROOT:-}
previous=$(basename "$(readlink "$root/opt/borough/previous" || echo "$1")")

remove() {
  echo "$1"
  rm -rf -- "$1"
}

for directory in "$root/opt/borough/releases/"* "$root/var/cache/borough/"*; do
  name=$(basename "$directory")
  case "$name" in
    "$1" | "$previous" | files | debs-*) ;;
    *) [ ! -e "$directory" ] || remove "$directory" ;;
  esac
done

needed=$(find "$root/var/cache/borough" -maxdepth 2 -type l -printf '%l\n')
for directory in "$root/var/cache/borough/files/"*; do
  [ -e "$directory" ] || continue
  case "$needed" in
    *"$(basename "$directory")"*) ;;
    *) remove "$directory" ;;
  esac
done

# Packages, models and images that neither release names are named by the first 16 digits of a file's sum.
used=$(readlink "$root/var/lib/borough/models" || true; readlink "$root/var/lib/borough/images/asterisk" || true)
for directory in "$root/var/cache/borough/debs-"* "$root/var/lib/borough/models-"*; do
  [ -d "$directory" ] || continue
  mark=${directory##*-}
  case "$needed $used" in
    *"$mark"*) ;;
    *) remove "$directory" ;;
  esac
done
