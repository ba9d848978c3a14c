#!/usr/bin/env bash
# A real Slurm cluster (slurmctld, N slurmd, optionally slurmdbd) on one machine: no systemd, loopback only, all in one folder.
#
#   devcluster.sh install            apt-get install what is missing (root; Debian, Ubuntu)
#   devcluster.sh up                 install if needed, start, wait until all nodes are idle; safe to repeat
#   devcluster.sh status             daemons, nodes, queue; exit 3 if something is down
#   devcluster.sh env                the export line for your shell: eval "$(devcluster.sh env)"
#   devcluster.sh crash NODE         lose a node: slurmd and every job process on it, at once
#   devcluster.sh kill-slurmd NODE   lose slurmd only: the job processes live on (split brain)
#   devcluster.sh start-node NODE    bring such a node back
#   devcluster.sh restart-ctld       stop and start the controller on its kept state
#   devcluster.sh down | clean       stop all that `up` started | and delete the folder
#
# Knobs (environment; give every verb the same ones):
#   SLURM_DEV_DIR=/tmp/slurm-dev  state folder (short: unix sockets lie in it)
#   SLURM_DEV_PORT=16800          first of the 20 + NODES ports used; clusters side by side need their own DIR and PORT
#   SLURM_DEV_NODES=4  SLURM_DEV_CPUS=8  SLURM_DEV_MEM=8000 (MB)  SLURM_DEV_GPUS=4     per node, all fake
#   SLURM_DEV_DBD=1               accounting: 1 = slurmdbd and mariadb, so that sacct works; 0 = neither
#   SLURM_DEV_CLUSTER=dev         ClusterName
#   SLURM_DEV_JOIN=               SLURM_DEV_DIR of another devcluster that is up, with accounting: this one shares its munge and slurmdbd, so
#                                 that each is reached from the other by sbatch -M NAME; it needs a PORT and a CLUSTER of its own
#   SLURM_DEV_FEDERATION=         of clusters of one slurmdbd: those that name the same federation share their jobs out
#   SLURM_DEV_MAX_ARRAY=1001      MaxArraySize: array indices are below it
#   SLURM_DEV_LUA=                a job_submit.lua: a site's own rules for what may be submitted
#   SLURM_DEV_EXTRA=              more lines for slurm.conf; a key given twice takes its last value
#   SLURM_DEV_PARTITIONS=         partition lines instead of the built-in five
#   SLURM_DEV_PARENT=             a pid: once this process has ended, were it by KILL, all is killed and the folder deleted; without it
#                                 the cluster outlives the command and the shell that started it
#   SLURM_DEV_CGROUPS=0           1 = what a job uses beyond its memory is killed by the kernel, as on a site (root, namespaces, cgroup v1)
#   SLURM_DEV_BUSY=1              times as long as on a free machine all that is waited for may take
#   SLURM_DEV_NS=auto|0|1         a pid, uts and mount namespace for each node (root): hostname = node name, crash is exact
set -euo pipefail

DIR=${SLURM_DEV_DIR:-/tmp/slurm-dev}
BASE=${SLURM_DEV_PORT:-16800}
NODES=${SLURM_DEV_NODES:-4}
CPUS=${SLURM_DEV_CPUS:-8}
MEM=${SLURM_DEV_MEM:-8000}
GPUS=${SLURM_DEV_GPUS:-4}
DBD=${SLURM_DEV_DBD:-1}
MAX_ARRAY=${SLURM_DEV_MAX_ARRAY:-1001}
EXTRA=${SLURM_DEV_EXTRA:-}
LUA=${SLURM_DEV_LUA:-}
PARTITIONS=${SLURM_DEV_PARTITIONS:-}
CGROUPS=${SLURM_DEV_CGROUPS:-0}
CGROUP=/sys/fs/cgroup CONTROLLERS="memory freezer" OURS=synthset-dev-$BASE
NS=${SLURM_DEV_NS:-auto}
PARENT=${SLURM_DEV_PARENT:-}
CLUSTER=${SLURM_DEV_CLUSTER:-dev}
JOIN=${SLURM_DEV_JOIN:-}
FEDERATION=${SLURM_DEV_FEDERATION:-}
CTLD_PORT=$BASE DBD_PORT=$((BASE + 1)) SQL_PORT=$((BASE + 2)) NODE_PORT=$((BASE + 10))
SHARED=${JOIN:-$DIR} # where munge's socket and slurmdbd's are
[ -z "$JOIN" ] || DBD_PORT=$(sed -n 's/^AccountingStoragePort=//p' "$JOIN/etc/slurm.conf")
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=/usr/local/sbin:/usr/sbin:/sbin:$PATH
ME=$(id -un)
HOST=$(hostname -s)
# an enclosing job's variables would reach the daemons and from there every job
for v in $(compgen -e | grep -E '^(SLURM|SLURMD|SBATCH|SRUN|SALLOC)_' | grep -v '^SLURM_DEV_' || true); do unset "$v"; done
export SLURM_CONF=$DIR/etc/slurm.conf

say() { printf '[devcluster] %s\n' "$*" >&2; }
die() {
  say "ERROR: $*"
  exit 1
}

# shellcheck source=conf.sh
. "$HERE/conf.sh"
# shellcheck source=daemons.sh
. "$HERE/daemons.sh"

install_missing() {
  local need=() c
  for c in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge; do
    command -v "${c%%:*}" >/dev/null || need+=("${c##*:}")
  done
  if [ "$DBD" = 1 ]; then
    command -v slurmdbd >/dev/null || need+=(slurmdbd)
    command -v mariadbd >/dev/null || need+=(mariadb-server-core)
    command -v mariadb >/dev/null || need+=(mariadb-client-core)
  fi
  [ ${#need[@]} -eq 0 ] && return 0
  [ "$(id -u)" = 0 ] || die "missing packages: ${need[*]}; install them as root"
  command -v apt-get >/dev/null || die "missing ${need[*]}, and no apt-get here: install Slurm 22.05 or newer and munge"
  say "apt-get install ${need[*]}"
  # the packages' scripts would start system-wide daemons
  local policy=/usr/sbin/policy-rc.d mine=0 log
  log=$(mktemp)
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && mine=1; }
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${need[@]}"; } >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2 && die "apt-get failed; see $log"; }
  [ $mine = 0 ] || rm -f $policy
  rm -f "$log"
}

cmd_install() { # one at a time: test runs side by side would meet dpkg's lock
  (flock 8 && install_missing) 8>"${TMPDIR:-/tmp}/synthset-devcluster-install-$(id -u).lock"
}

cmd_up() {
  local t0=$EPOCHREALTIME i
  cmd_install
  [ ${#DIR} -lt 70 ] || die "SLURM_DEV_DIR=$DIR is too long for the unix sockets in it: at most 70 characters"
  mkdir -p "$DIR/run"
  exec 9>"$DIR/run/lock"
  flock 9
  [ "$CGROUPS" = 0 ] || need_cgroups
  write_conf
  start_keeper # before what it is to end
  [ -n "$JOIN" ] || start_munged
  if [ "$DBD" = 1 ]; then start_accounting; fi
  start_ctld
  for ((i = 1; i <= NODES; i++)); do start_node "node$i"; done
  waitfor 40 "all $NODES nodes" nodes_ready
  [ -z "$FEDERATION" ] || join_federation
  [ -z "$FEDERATION" ] || waitfor 30 "the clusters of federation $FEDERATION" federated
  say "up in $(awk "BEGIN{printf \"%.1f\", $EPOCHREALTIME-$t0}") s: $NODES nodes ($(use_ns && echo 'own namespaces' || echo 'plain'))"
  cmd_env
}

cmd_env() { echo "export SLURM_CONF=$SLURM_CONF"; }

cmd_keep() {
  local pid start
  read -r pid start <"$DIR/run/parent"
  while living "$pid" "$start"; do sleep 0.5; done
  cmd_clean KILL
}

cmd_down() { # cmd_down [KILL]: KILL asks nobody
  local f name term=${1:-TERM}
  [ -d "$DIR/run" ] || return 0
  exec 9>"$DIR/run/lock"
  flock 9
  [ "$term" = KILL ] || stop keeper KILL 1
  if [ "$term" != KILL ] && alive slurmctld; then
    timeout 10 scancel -u "$ME" 2>/dev/null || true
    sleep 0.3
  fi
  rm -f "$DIR"/run/hold-*
  stop slurmctld "$term" 10
  for f in "$DIR"/run/slurmd-*.pid; do
    name=$(basename "$f" .pid)
    case $name in '*' | *.real) continue ;; esac
    if use_ns; then stop "$name" KILL 5; else stop "$name" "$term" 5; fi
  done
  stop slurmdbd "$term" 10
  stop mariadbd "$term" 20
  kill_leftovers ""
  remove_cgroups
  stop munged "$term" 5
  rm -f "$DIR"/run/*.real.pid "$DIR"/run/*.socket*
  say "down"
}

cmd_clean() { # cmd_clean [KILL]
  cmd_down "$@"
  case $DIR in / | /tmp | /home | "$HOME") die "refusing to delete SLURM_DEV_DIR=$DIR" ;; esac
  rm -rf "$DIR"
  say "removed $DIR"
}

cmd_status() {
  local d rc=0 i list="munged slurmctld"
  [ "$DBD" = 1 ] && list="munged mariadbd slurmdbd slurmctld"
  [ -z "$JOIN" ] || list=slurmctld
  for ((i = 1; i <= NODES; i++)); do list="$list slurmd-node$i"; done
  for d in $list; do
    if alive "$d"; then echo "$d up pid=$(cut -d' ' -f1 "$DIR/run/$d.pid")"; else
      echo "$d DOWN"
      rc=3
    fi
  done
  if alive slurmctld; then
    timeout 10 sinfo -N -o '%N %P %t %C %G %m' || rc=3
    timeout 10 squeue -a || rc=3
  fi
  cmd_env
  return $rc
}

node_arg() {
  case ${1:-} in node[1-9]*) [ -s "$DIR/run/slurmd-$1.pid" ] || [ "${2:-}" = any ] || die "$1 is not running" ;; *) die "which node? node1..node$NODES" ;; esac
}

case ${1:-} in
  install) cmd_install ;;
  up) cmd_up ;;
  down) cmd_down ;;
  clean) cmd_clean ;;
  status) cmd_status ;;
  env) cmd_env ;;
  crash)
    node_arg "${2:-}"
    crash_node "$2"
    ;;
  kill-slurmd)
    node_arg "${2:-}"
    kill_slurmd "$2"
    ;;
  start-node)
    node_arg "${2:-}" any
    start_node "$2"
    waitfor 30 "$2" node_ready "$2"
    ;;
  keep) cmd_keep ;; # what `up` starts
  restart-ctld)
    stop slurmctld TERM 10
    start_ctld
    waitfor 20 slurmctld timeout 5 scontrol ping
    ;;
  *)
    sed -n '2,33p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
    exit 2
    ;;
esac
