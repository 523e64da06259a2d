# shellcheck shell=bash
# What bin/{hadoop,hdfs,yarn,mapred} share: find Hadoop, its configuration and Java, build the
# class path and options as Apache's launchers do, and become Java with `exec`, so that a
# supervisor sees the daemon itself. It only runs things in the foreground.
#
# A launcher sets LAUNCHER (its name), USAGE and the function `command_class`, which for the
# subcommand in $1 sets
#   CLASS      the class to run
#   DAEMON     yes for daemons: these take no HADOOP_CLIENT_OPTS
#   EXTRA      more class path entries
#   PREFIX     arguments to put before the user's
#   OPTIONS    options of this subcommand, before all others
# and then calls `launch "$@"`.

set -euo pipefail

die() {
  printf '%s: %s\n' "$LAUNCHER" "$1" >&2
  exit "${2:-1}"
}

# Site files are sourced as Apache's launchers source them: they may use unset variables.
source_if_present() {
  if [[ -r $1 ]]; then
    set +eu
    # shellcheck disable=SC1090
    source "$1"
    set -eu
  fi
}

# Split the words of $2 into the array named $1, without expanding anything.
words_into() {
  local -n words_target=$1
  words_target=()
  read -r -d '' -a words_target <<<"$2" || true
}

find_java() {
  if [[ -n ${JAVA_HOME:-} ]]; then
    JAVA=$JAVA_HOME/bin/java
    [[ -x $JAVA ]] || die "JAVA_HOME is $JAVA_HOME, but there is no $JAVA to run"
  else
    JAVA=$(command -v java) || die 'JAVA_HOME is not set and there is no java in PATH'
    JAVA=$(readlink -f "$JAVA")
    JAVA_HOME=${JAVA%/bin/java}
  fi
  export JAVA_HOME
}

# Java 8 does not know --add-opens. The release file costs nothing; starting Java twice would.
java_opens() {
  if ! grep -qs '^JAVA_VERSION="1\.' "$JAVA_HOME/release"; then
    local package
    for package in java.lang java.io java.net java.util sun.net.dns; do
      printf -- '--add-opens=java.base/%s=ALL-UNNAMED\n' "$package"
    done
  fi
}

build_classpath() {
  local share=$HADOOP_HOME/share/hadoop
  local -a entries=(
    "$HADOOP_CONF_DIR"
    "$share/common/lib/*" "$share/common/*"
    "$share/hdfs" "$share/hdfs/lib/*" "$share/hdfs/*"
    "$share/mapreduce/*"
    "$share/yarn" "$share/yarn/lib/*" "$share/yarn/*"
    "${EXTRA[@]}"
  )
  if [[ -n ${HADOOP_CLASSPATH:-} ]]; then
    if [[ -n ${HADOOP_USER_CLASSPATH_FIRST:-} ]]; then
      entries=("$HADOOP_CLASSPATH" "${entries[@]}")
    else
      entries+=("$HADOOP_CLASSPATH")
    fi
  fi
  local IFS=:
  CLASSPATH="${entries[*]}"
  export CLASSPATH
}

# A number of megabytes, or what Java takes after -Xmx.
heap_option() {
  if [[ $2 =~ ^[0-9]+$ ]]; then
    printf '%s%sm' "$1" "$2"
  else
    printf '%s%s' "$1" "$2"
  fi
}

# Leave the Java command in the array COMMAND. Later options win over earlier ones.
build_command() {
  local subcommand=$1 name words
  local -a options=("-Dproc_$subcommand" -Djava.net.preferIPv4Stack=true)
  mapfile -t -O "${#options[@]}" options < <(java_opens)
  if [[ -n ${HADOOP_HEAPSIZE_MAX:-${HADOOP_HEAPSIZE:-}} ]]; then
    options+=("$(heap_option -Xmx "${HADOOP_HEAPSIZE_MAX:-$HADOOP_HEAPSIZE}")")
  fi
  if [[ -n ${HADOOP_HEAPSIZE_MIN:-} ]]; then
    options+=("$(heap_option -Xms "$HADOOP_HEAPSIZE_MIN")")
  fi
  options+=(
    "-Dhadoop.home.dir=$HADOOP_HOME"
    "-Dyarn.home.dir=$HADOOP_HOME"
    "-Dhadoop.log.dir=$HADOOP_LOG_DIR"
    "-Dyarn.log.dir=$HADOOP_LOG_DIR"
    "-Dhadoop.log.file=$HADOOP_LOGFILE"
    "-Dyarn.log.file=$HADOOP_LOGFILE"
    "-Dhadoop.id.str=$HADOOP_IDENT_STRING"
    "-Dhadoop.root.logger=$HADOOP_ROOT_LOGGER"
    "-Dyarn.root.logger=$HADOOP_ROOT_LOGGER"
    "-Dhadoop.policy.file=$HADOOP_POLICYFILE"
    "-Dhadoop.security.logger=$HADOOP_SECURITY_LOGGER"
  )
  if [[ -d $HADOOP_HOME/lib/native ]]; then
    local libraries=$HADOOP_HOME/lib/native${JAVA_LIBRARY_PATH:+:$JAVA_LIBRARY_PATH}
    options+=("-Djava.library.path=$libraries")
  fi
  options+=("${OPTIONS[@]}")
  words_into words "${HADOOP_OPTS:-}"
  options+=("${words[@]}")
  if [[ $DAEMON != yes ]]; then
    words_into words "${HADOOP_CLIENT_OPTS:-}"
    options+=("${words[@]}")
  fi
  # HDFS_NAMENODE_OPTS, YARN_RESOURCEMANAGER_OPTS, MAPRED_HISTORYSERVER_OPTS, HADOOP_KMS_OPTS, ...
  name=${LAUNCHER^^}_${subcommand//[^[:alnum:]]/_}
  name=${name^^}_OPTS
  words_into words "${!name:-}"
  options+=("${words[@]}")
  COMMAND=("$JAVA" "${options[@]}" "$CLASS" "${PREFIX[@]}")
}

# Apache's launchers refuse a subcommand to anybody but <LAUNCHER>_<SUBCOMMAND>_USER, where set.
check_user() {
  local name=${LAUNCHER^^}_${1^^}_USER
  name=${name//[^[:alnum:]]/_}
  local wanted=${!name:-}
  if [[ -n $wanted && $wanted != "$(id -un)" ]]; then
    die "$1 can only be executed by $wanted ($name)"
  fi
}

print_environment() {
  local name
  for name in JAVA_HOME HADOOP_HOME HADOOP_CONF_DIR HADOOP_LOG_DIR HADOOP_LOGFILE \
    HADOOP_ROOT_LOGGER HADOOP_OPTS HADOOP_CLIENT_OPTS HADOOP_CLASSPATH; do
    printf "%s='%s'\n" "$name" "${!name:-}"
  done
}

launch() {
  local debug=no loglevel='' subcommand
  while (($#)); do
    case $1 in
      --config | --conf)
        (($# > 1)) || die '--config needs a directory' 2
        [[ -d $2 ]] || die "no configuration directory $2" 2
        export HADOOP_CONF_DIR=$2
        shift 2
        ;;
      --loglevel)
        (($# > 1)) || die '--loglevel needs a level' 2
        loglevel=$2
        shift 2
        ;;
      --debug)
        debug=yes
        shift
        ;;
      --daemon | --workers | --hosts | --hostnames | --buildpaths)
        die "$1 is not supported by these launchers: run each daemon in the foreground under a supervisor such as systemd" 2
        ;;
      --help | -help | -h | help)
        printf '%s\n' "$USAGE"
        exit 0
        ;;
      --*) die "unknown option $1" 2 ;;
      *) break ;;
    esac
  done
  if ((!$#)); then
    printf '%s\n' "$USAGE" >&2
    exit 1
  fi
  subcommand=$1
  shift

  export HADOOP_CONF_DIR=${HADOOP_CONF_DIR:-$HADOOP_HOME/etc/hadoop}
  [[ -d $HADOOP_CONF_DIR ]] || die "no configuration directory $HADOOP_CONF_DIR (HADOOP_CONF_DIR)"
  source_if_present "$HADOOP_CONF_DIR/hadoop-env.sh"
  if [[ $LAUNCHER != hadoop ]]; then
    source_if_present "$HADOOP_CONF_DIR/$LAUNCHER-env.sh"
  fi
  find_java
  : "${HADOOP_LOG_DIR:=$HADOOP_HOME/logs}" "${HADOOP_LOGFILE:=hadoop.log}"
  : "${HADOOP_IDENT_STRING:=${USER:-$(id -un)}}"
  : "${HADOOP_ROOT_LOGGER:=${HADOOP_LOGLEVEL:-INFO},console}"
  : "${HADOOP_POLICYFILE:=hadoop-policy.xml}" "${HADOOP_SECURITY_LOGGER:=INFO,NullAppender}"
  if [[ -n $loglevel ]]; then
    HADOOP_ROOT_LOGGER=$loglevel,console
  fi
  # Children (the NodeManager's containers, MapReduce's local mode) look for these.
  export HADOOP_COMMON_HOME=$HADOOP_HOME HADOOP_HDFS_HOME=$HADOOP_HOME
  export HADOOP_YARN_HOME=$HADOOP_HOME HADOOP_MAPRED_HOME=$HADOOP_HOME HADOOP_LOG_DIR
  # glibc would reserve an arena for each of a JVM's many threads.
  export MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-4}

  CLASS='' DAEMON=no EXTRA=() PREFIX=() OPTIONS=()
  case $subcommand in
    classpath)
      build_classpath
      if ((!$#)); then
        printf '%s\n' "$CLASSPATH"
        exit 0
      fi
      CLASS=org.apache.hadoop.util.Classpath
      ;;
    envvars)
      print_environment
      exit 0
      ;;
    version) CLASS=org.apache.hadoop.util.VersionInfo ;;
    *) command_class "$subcommand" ;;
  esac
  if [[ -z $CLASS ]]; then
    # As with Apache's launchers, anything with a dot is a class.
    if [[ $subcommand != *.* || $subcommand == -* ]]; then
      printf '%s: no command named %s\n\n%s\n' "$LAUNCHER" "$subcommand" "$USAGE" >&2
      exit 1
    fi
    CLASS=$subcommand
  fi
  check_user "$subcommand"
  build_classpath
  build_command "$subcommand"
  if [[ $debug == yes ]]; then
    printf 'DEBUG: CLASSPATH=%s\n' "$CLASSPATH" >&2
    printf 'DEBUG: %q\n' "${COMMAND[@]}" "$@" >&2
  fi
  exec "${COMMAND[@]}" "$@"
}
