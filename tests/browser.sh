#!/bin/sh
# Have Debian's Chromium for the browser test, and what puts an authority into its database.
set -eu

packages="chromium fonts-dejavu-core libnss3-tools"

say() { echo "browser: $*" >&2; }

missing=""
for package in $packages; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    say "not root: install these yourself, then run this again:$missing"
    exit 1
fi
say "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update -q >/dev/null
# shellcheck disable=SC2086  # a list of words
apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends $missing >/dev/null
