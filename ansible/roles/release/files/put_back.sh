#!/bin/sh
# Puts back what keep.sh kept in the archive $1, removes the units that came since, and has services run what was kept.
# BOROUGH_ROOT: where the machine's files lie, and nothing is started there; set in tests only.
set -eu
root=${BOROUGH_ROOT:-}
cd "$root/"

look() {
  # What the file's owner reads, so that a service whose settings are the same is left alone.
  find "$@" -type f -exec sha256sum {} + 2>/dev/null | sort
}

kamailio=$(look etc/kamailio etc/systemd/system/kamailio.service.d || true)
keepalived=$(look etc/keepalived etc/systemd/system/keepalived.service.d || true)
kept=$(tar --list --file "$1")
for path in etc/systemd/system/borough*.service etc/systemd/system/borough*.timer etc/systemd/system/borough*.path; do
  [ -e "$path" ] || continue
  case "
$kept
" in
    *"
$path
"*) continue ;;
  esac
  case "$path" in
    *@.service) ;;
    *) [ -n "$root" ] || systemctl disable --now "$(basename "$path")" || true ;;
  esac
  echo "removed $path"
  rm "$path"
done
# Whole folders, so that no file of the newer release stays in them.
rm -rf etc/borough/rendered usr/local/lib/borough
# What cannot be put back is told in the end; services are started all the same.
status=0
tar --extract --preserve-permissions --file "$1" || status=$?
[ -z "$root" ] || exit "$status"

systemctl daemon-reload
systemctl reload nftables.service || true
[ "$kamailio" = "$(look etc/kamailio etc/systemd/system/kamailio.service.d || true)" ] ||
  systemctl try-restart kamailio.service || true
[ "$keepalived" = "$(look etc/keepalived etc/systemd/system/keepalived.service.d || true)" ] ||
  systemctl try-restart keepalived.service || true

# All at once: their units say who waits for whom. The self-test says what does not run.
cd etc/systemd/system/borough.target.wants
systemctl reset-failed 'borough*' || true
set --
for unit in borough-nats.service borough-nats-arbiter.service borough-inference.service borough-asterisk.service \
  borough-agent.service borough-litestream.service borough-calls@*.service; do
  [ ! -L "$unit" ] || set -- "$@" "$unit"
done
systemctl restart "$@" || true
exit "$status"
