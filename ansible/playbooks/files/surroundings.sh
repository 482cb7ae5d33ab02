#!/bin/sh
# One sum of all files that the machine around the services is made of.
set -eu
cd "$(dirname "$0")/../../roles"
find base firewall observability ../../provisioning/dashboards -type f -not -name '*.pyc' -print0 |
  LC_ALL=C sort --zero-terminated | xargs --null sha256sum | sha256sum | cut -c1-64
