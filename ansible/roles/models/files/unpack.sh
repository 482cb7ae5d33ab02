#!/bin/sh
# Unpacks the archive $1 into the folder $2. The mark is written last, so that what was interrupted is unpacked anew.
set -eu
mkdir -p -- "$2"
tar --extract --no-same-owner --file "$1" --directory "$2"
touch -- "$2/.complete"
