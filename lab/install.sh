#!/bin/sh
# Install those of these Debian packages that are missing, and say so as CALLER:
#   install.sh CALLER PACKAGE...
set -eu

caller=$1
shift
missing=""
for package in "$@"; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "$caller: not root: install these yourself, then run this again:$missing" >&2
    exit 1
fi
echo "$caller: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 update -q >/dev/null
# shellcheck disable=SC2086  # a list of words
apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends $missing >/dev/null
