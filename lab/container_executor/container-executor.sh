#!/bin/sh
# The program that the lab's NodeManagers call in place of Apache's setuid container-executor.
exec /usr/bin/sudo -n -- /usr/local/libexec/deitos-lab/container_executor.py "$@"
