#!/bin/sh
# Give this computer (Debian 12, as root) what the lab, the builds and the tests need, and see to
# it that a Docker daemon answers. Quick when all is there.
set -eu

packages="
    ca-certificates curl debootstrap g++ gcc git iproute2 iptables krb5-config libkrb5-dev libldap2-dev
    libsasl2-dev make maven openjdk-17-jdk-headless openssh-client openssl procps python3
    python3-dev python3-venv rsync
"
# A Docker of the site's own is used as it is.
docker info >/dev/null 2>&1 || command -v dockerd >/dev/null 2>&1 || packages="$packages docker.io"

say() { echo "prepare: $*" >&2; }

# shellcheck disable=SC2086  # a list of words
sh "$(dirname "$0")/install.sh" prepare $packages

if ! docker info >/dev/null 2>&1; then
    if [ -d /run/systemd/system ]; then
        say "starting Docker (systemctl)"
        systemctl start docker || {
            say "Docker does not start:"
            journalctl --unit docker --lines 15 --no-pager >&2
            exit 1
        }
    else
        say "starting Docker (its log is /var/log/dockerd.log)"
        setsid dockerd >>/var/log/dockerd.log 2>&1 </dev/null &
    fi
    tries=0
    until docker info >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            say "Docker does not answer after 60 s:"
            tail -n 15 /var/log/dockerd.log >&2 || journalctl --unit docker --lines 15 >&2
            exit 1
        fi
        sleep 1
    done
fi

# Debian's default number of inotify instances does for one lab's systemds, not for two.
instances=/proc/sys/fs/inotify/max_user_instances
if [ "$(cat $instances)" -lt 1024 ]; then
    say "raising fs.inotify.max_user_instances to 1024 until the next boot"
    echo 1024 >$instances
fi
