#!/bin/sh
# Makes the environment $2 of the environment $1: the same files, but for those that name their folder.
set -eu
cp --archive --link -- "$1" "$2"
cd -- "$2"
rm -f complete wheels.sha256
# sed writes a new file, so that the environment that is in use stays as it is.
grep --recursive --files-with-matches --binary-files=without-match --fixed-strings -- "$1" bin pyvenv.cfg |
  while IFS= read -r file; do
    [ -L "$file" ] || sed --in-place "s|$1|$2|g" "$file"
  done
