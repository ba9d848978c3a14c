# shellcheck shell=bash disable=SC2154 # sourced by devcluster.sh, which sets the knobs
# Starting, finding and killing the daemons. A daemon is known by its pid and start time, so a recycled pid is never killed.

use_ns() {
  case $NS in 0) return 1 ;; 1) return 0 ;; esac
  [ "$(id -u)" = 0 ] && unshare --fork --pid --uts --mount --kill-child true 2>/dev/null
}

need_cgroups() {
  local c
  use_ns || die "SLURM_DEV_CGROUPS=1 needs root, and namespaces"
  for c in $CONTROLLERS; do
    mkdir -p "$CGROUP/$c/$OURS" 2>/dev/null && [ -e "$CGROUP/$c/$OURS/tasks" ] || die "SLURM_DEV_CGROUPS=1 needs the $c controller of cgroup v1 at $CGROUP/$c"
    mkdir -p "$DIR/cgroup/$c"
  done
}

# Slurm calls them by the node's name alone, so clusters side by side need a part of the tree each.
mount_cgroups() {
  local c
  [ "$CGROUPS" = 0 ] || for c in $CONTROLLERS; do printf "mount --bind '%s' '%s' && " "$CGROUP/$c/$OURS" "$DIR/cgroup/$c"; done
}

remove_cgroups() { # whatever CGROUPS is: keep and clean may not know it
  local c
  for c in $CONTROLLERS; do
    [ ! -d "$CGROUP/$c/$OURS" ] || find "$CGROUP/$c/$OURS" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '{print $20}'; }

living() { # living PID START: this process is still there and no zombie
  [ -n "$2" ] && [ "$(start_time "$1")" = "$2" ] && [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" != Z ]
}

alive() { # alive NAME: the recorded process is living
  local f=$DIR/run/$1.pid pid start
  [ -s "$f" ] || return 1
  read -r pid start <"$f"
  living "$pid" "$start"
}

launch() { # launch NAME CMD...: in its own session, output in log/NAME.out
  local name=$1
  shift
  setsid "$@" >>"$DIR/log/$name.out" 2>&1 </dev/null 9>&- &
  echo "$! $(start_time $!)" >"$DIR/run/$name.pid"
}

stop() { # stop NAME SIGNAL SECONDS: then KILL
  local name=$1 sig=$2 end=$((SECONDS + $3 + 1)) pid _
  if alive "$name"; then
    read -r pid _ <"$DIR/run/$name.pid"
    kill "-$sig" "$pid" 2>/dev/null || true
    while alive "$name" && [ $SECONDS -lt $end ]; do sleep 0.05; done
    ! alive "$name" || kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$DIR/run/$name.pid"
}

waitfor() { # waitfor SECONDS WHAT CMD...
  local what=$2 end=$((SECONDS + ${SLURM_DEV_BUSY:-1} * $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || die "timed out waiting for $what; see $DIR/log"
    sleep 0.05
  done
}

start_keeper() { # kills all when SLURM_DEV_PARENT has ended, however it did; in a session of its own, so that what kills that one misses it
  [ -n "$PARENT" ] || return 0
  [ -s "$DIR/run/parent" ] || echo "$PARENT $(start_time "$PARENT")" >"$DIR/run/parent"
  alive keeper || launch keeper "$HERE/devcluster.sh" keep
}

start_munged() {
  alive munged || rm -f "$DIR/run/munge.socket" # of one that was killed: it would look ready
  alive munged || launch munged munged -F --force --key-file="$DIR/etc/munge.key" --socket="$DIR/run/munge.socket" \
    --pid-file="$DIR/run/munged.real.pid" --log-file="$DIR/log/munged.log" --seed-file="$DIR/run/munged.seed" --num-threads=4
  waitfor 10 munged test -S "$DIR/run/munge.socket"
}

start_accounting() {
  [ -n "$JOIN" ] || start_dbd
  if ! sacctmgr -n -P show cluster format=cluster | grep -qx "$CLUSTER"; then
    # a user with an account, so that limits can be set: sacctmgr -i modify user USER set MaxSubmitJobs=5
    sacctmgr -i -Q add cluster "$CLUSTER" >/dev/null
    sacctmgr -i -Q add account dev Cluster="$CLUSTER" Description=dev Organization=dev >/dev/null
    sacctmgr -i -Q add user "$ME" Account=dev Cluster="$CLUSTER" >/dev/null
  fi
}

join_federation() { # once slurmdbd knows where the controller is: siblings are never told it later
  local members
  waitfor 30 "slurmdbd to know the controller" registered
  members=$(sacctmgr -n -P show federation format=federation,cluster)
  grep -q "^$FEDERATION|" <<<"$members" || sacctmgr -i -Q add federation "$FEDERATION" >/dev/null
  grep -qxF "$FEDERATION|$CLUSTER" <<<"$members" || sacctmgr -i -Q modify federation "$FEDERATION" set "clusters+=$CLUSTER" >/dev/null
}

registered() { timeout 5 sacctmgr -n -P show cluster "$CLUSTER" format=controlport | grep -qx '[1-9][0-9]*'; }

federated() { # this cluster is a member, and hears all others
  local told
  told=$(timeout 5 scontrol show federation)
  grep -q '^Self:' <<<"$told" && ! grep -qE 'Synced:No|Recv:No|Send/Recv:No' <<<"$told"
}

start_dbd() {
  local sql=(mariadb --no-defaults -uroot -S "$DIR/run/mysql.socket" -e)
  local TMPDIR=$DIR/mysql-tmp # its own: a server that starts deletes the temporary tables of all others there
  export TMPDIR
  mkdir -p "$TMPDIR"
  if ! alive mariadbd; then
    if [ ! -d "$DIR/mysql/mysql" ]; then
      mariadb-install-db --no-defaults --user="$ME" --datadir="$DIR/mysql" --skip-test-db \
        --auth-root-authentication-method=normal >"$DIR/log/mariadb-install.log" 2>&1 || die "mariadb-install-db: see $DIR/log"
    fi
    launch mariadbd mariadbd --no-defaults --user="$ME" --datadir="$DIR/mysql" --socket="$DIR/run/mysql.socket" \
      --pid-file="$DIR/run/mariadbd.real.pid" --bind-address=127.0.0.1 --port="$SQL_PORT" --skip-name-resolve \
      --innodb-buffer-pool-size=128M --innodb-lock-wait-timeout=900 --innodb-log-file-size=32M \
      --innodb-flush-log-at-trx-commit=0 --innodb-flush-method=fsync --performance-schema=OFF
  fi
  waitfor 30 mariadbd "${sql[@]}" 'select 1'
  "${sql[@]}" "create database if not exists slurm_acct_db; create user if not exists slurm@'127.0.0.1' identified by 'slurm';
    grant all on slurm_acct_db.* to slurm@'127.0.0.1';"
  alive slurmdbd || launch slurmdbd slurmdbd -D # it has no -f: it reads slurmdbd.conf beside $SLURM_CONF
  waitfor 30 slurmdbd timeout 5 sacctmgr -n -P show cluster
}

start_ctld() { alive slurmctld || launch slurmctld slurmctld -D -f "$SLURM_CONF"; }

start_node() {
  local n=$1 cmd
  rm -f "$DIR/run/hold-$n"
  alive "slurmd-$n" && return 0
  mkdir -p "$DIR/spool-$n"
  if use_ns; then
    # pid 1 of the node starts slurmd again when it is gone, unless kill-slurmd holds it down
    cmd="mount --make-rprivate / && mount -t proc proc /proc && mount --bind '$DIR/etc/hosts' /etc/hosts && $(mount_cgroups) hostname $n || exit 1
      while :; do slurmd -D -N $n -f '$SLURM_CONF' & wait \$!; while [ -e '$DIR/run/hold-$n' ]; do sleep 0.1; done; sleep 0.1; done"
    launch "slurmd-$n" unshare --fork --pid --uts --mount --kill-child=KILL bash -c "$cmd"
  else
    launch "slurmd-$n" slurmd -D -N "$n" -f "$SLURM_CONF"
  fi
}

_up_states='^(idle|mix|alloc|comp)$'
nodes_ready() { [ "$(timeout 5 sinfo -h -N -o '%N %t' | awk -v up="$_up_states" '$2 ~ up {print $1}' | sort -u | wc -l)" -ge "$NODES" ]; }
node_ready() { timeout 5 sinfo -h -n "$1" -o '%t' | grep -qE "$_up_states"; }

crash_node() {
  local pid _
  read -r pid _ <"$DIR/run/slurmd-$1.pid"
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$DIR/run/slurmd-$1.pid"
  if use_ns; then return 0; fi # the namespace took everything with it
  kill_leftovers "$1"
}

kill_slurmd() {
  local pid _ c init
  read -r pid _ <"$DIR/run/slurmd-$1.pid"
  if ! use_ns; then
    kill -KILL "$pid"
    return 0
  fi
  : >"$DIR/run/hold-$1"
  init=$(pgrep -P "$pid")
  for c in $(pgrep -P "$init"); do
    if tr '\0' ' ' <"/proc/$c/cmdline" | grep -q -- "slurmd -D -N $1 "; then kill -KILL "$c"; fi
  done
}

env_of() { { tr '\0' '\n' <"/proc/$1/environ"; } 2>/dev/null || true; }

kill_leftovers() { # kill_leftovers NODE|"": step daemons and job processes of this cluster, of one node or of all
  local p pid want
  for want in stepd job; do # step daemons first: they would report the end of their tasks
    for p in /proc/[0-9]*; do
      pid=${p#/proc/}
      [ "$want" = job ] || [ "$(cat "$p/comm" 2>/dev/null)" = slurmstepd ] || continue
      env_of "$pid" | grep -qxF "SLURM_CONF=$SLURM_CONF" || continue
      [ "$want" = stepd ] || env_of "$pid" | grep -q '^SLURM_JOB_ID=' || continue
      if [ -z "$1" ] || _on_node "$pid" "$1"; then kill -KILL "$pid" 2>/dev/null || true; fi
    done
  done
}

_on_node() { # the process, or a child of it (a step daemon's own environment names no node), runs on this node
  local c
  for c in "$1" $(pgrep -P "$1"); do
    if env_of "$c" | grep -qxF "SLURMD_NODENAME=$2"; then return 0; fi
  done
  return 1
}
