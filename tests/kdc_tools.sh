#!/bin/sh
# Have the tools of an MIT KDC, and slapd, for the unit tests of the Kerberos and LDAP modules. Where
# they are not installed, Debian's packages are unpacked into the cache: installing would start them.
set -eu

cache="${XDG_CACHE_HOME:-$HOME/.cache}/deitos-cluster/kdc-tools"
PATH="$PATH:/usr/sbin"
packages="
    krb5-admin-server krb5-kdc krb5-user libcom-err2 libev4 libgssapi-krb5-2 libgssrpc4
    libk5crypto3 libkadm5clnt-mit12 libkadm5srv-mit12 libkdb5-10 libkrb5-3 libkrb5support0 libss2
    libverto-libev1 libverto1
    libldap-2.5-0 libltdl7 libodbc2 libsasl2-2 libsasl2-modules-gssapi-mit libwrap0 slapd
"

say() { echo "kdc_tools: $*" >&2; }

installed=yes
for tool in kadmin.local kadmind kdb5_util kinit krb5kdc slapd; do
    command -v "$tool" >/dev/null 2>&1 || installed=no
done
[ "$installed" = no ] || exit 0
[ ! -x "$cache/usr/sbin/slapd" ] || exit 0

mkdir -p "$(dirname "$cache")"
partial=$(mktemp -d "$cache.XXXXXX")
trap 'rm -rf "$partial"' EXIT
mkdir "$partial/packages" "$partial/root"
cd "$partial/packages"
say "unpacking a KDC into $cache"
# shellcheck disable=SC2086  # a list of words
if ! apt-get -q download $packages >../log 2>&1; then
    cat ../log >&2
    say "the packages cannot be downloaded; run 'apt-get update', or install krb5-kdc and krb5-admin-server"
    exit 1
fi
for package in *.deb; do
    dpkg-deb --extract "$package" ../root
done
chmod 755 ../root
# Named last, so that a run cut off leaves nothing that looks complete.
rm -rf "$cache"
mv ../root "$cache"
