# shellcheck shell=bash
# Sourced by every launcher before Java starts. A site keeps its own in HADOOP_CONF_DIR.
# export JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64
