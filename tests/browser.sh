#!/bin/sh
# Have Debian's Chromium for the browser test, and what puts an authority into its database.
exec sh "$(dirname "$0")/../lab/install.sh" browser chromium fonts-dejavu-core libnss3-tools
