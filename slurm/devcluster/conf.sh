# shellcheck shell=bash disable=SC2154 # sourced by devcluster.sh, which sets the knobs
# The configuration files of the cluster, written anew at every `up`.

write_conf() {
  local i bind=""
  # With No*InAddrAny every daemon and srun binds to what its own hostname resolves to: that must be 127.x to stay on loopback.
  if getent ahostsv4 "$HOST" | grep -q '^127\.'; then
    bind="NoInAddrAny,NoCtldInAddrAny"
  elif [ "$(id -u)" = 0 ]; then
    echo "127.0.0.1 $HOST" >>/etc/hosts
    bind="NoInAddrAny,NoCtldInAddrAny"
  else
    say "WARNING: $HOST does not resolve to 127.x, so the daemons listen on every interface"
  fi
  mkdir -p "$DIR"/{etc,run,log,state,gpu,mysql}
  chmod 755 "$DIR" "$DIR"/{etc,run,log,gpu}
  chmod 700 "$DIR/state"
  [ -s "$DIR/etc/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$DIR/etc/munge.key")
  # Fake GPUs: links to a character device. With plain files CUDA_VISIBLE_DEVICES stays empty; without File= the node is invalid.
  for ((i = 0; i < GPUS; i++)); do ln -sfn /dev/null "$DIR/gpu/fake$i"; done
  {
    echo "127.0.0.1 localhost $HOST"
    for ((i = 1; i <= NODES; i++)); do echo "127.0.0.1 node$i"; done
  } >"$DIR/etc/hosts"
  {
    conf_daemons "$bind"
    conf_accounting
    conf_nodes
    conf_partitions
    [ -z "$LUA" ] || echo "JobSubmitPlugins=lua" # it reads job_submit.lua beside slurm.conf
    [ -z "$EXTRA" ] || printf '%s\n' "$EXTRA"
  } >"$DIR/etc/slurm.conf"
  [ -z "$LUA" ] || cp "$LUA" "$DIR/etc/job_submit.lua"
  : >"$DIR/etc/gres.conf"
  [ "$GPUS" = 0 ] || echo "Name=gpu File=$DIR/gpu/fake[0-$((GPUS - 1))] Flags=nvidia_gpu_env" >"$DIR/etc/gres.conf"
  conf_cgroups >"$DIR/etc/cgroup.conf"
  [ "$DBD" != 1 ] || [ -n "$JOIN" ] || (umask 077 && conf_slurmdbd "$bind" >"$DIR/etc/slurmdbd.conf")
}

conf_daemons() {
  cat <<CONF
ClusterName=$CLUSTER
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=$ME
SlurmdUser=$ME
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also the delay before a requeued job may start again: 120 s by default, 5 is the least
AuthInfo=socket=$SHARED/run/munge.socket,cred_expire=5
SlurmctldPort=$CTLD_PORT
SlurmdPort=$NODE_PORT
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool-%n
SlurmctldPidFile=$DIR/run/slurmctld.real.pid
SlurmdPidFile=$DIR/run/slurmd-%n.real.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
${1:+CommunicationParameters=$1}
# fake hardware: believe the node lines below, not the machine
SlurmdParameters=config_overrides
MpiDefault=none
ProctrackType=proctrack/$([ "$CGROUPS" = 0 ] && echo linuxproc || echo cgroup)
TaskPlugin=task/$([ "$CGROUPS" = 0 ] && echo none || echo cgroup)
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
MaxArraySize=$MAX_ARRAY
MaxJobCount=10000
JobRequeue=1
# quick reactions: a job starts within a second of its submission, a lost node is noticed within half a minute
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2,bf_continue
PriorityType=priority/basic
KillWait=5
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
MinJobAge=3600
CompleteWait=0
UnkillableStepTimeout=15
MessageTimeout=10
TCPTimeout=2
BatchStartTimeout=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# the --signal of a job is sent when it is preempted, too
SlurmctldParameters=preempt_send_user_signal
CONF
}

conf_cgroups() {
  echo CgroupPlugin=cgroup/v1
  [ "$CGROUPS" = 0 ] || printf 'CgroupMountpoint=%s/cgroup\nConstrainRAMSpace=yes\n' "$DIR"
}

conf_accounting() {
  if [ "$DBD" = 1 ]; then
    cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT
# the munge socket: AuthInfo is not used for the connection to slurmdbd
AccountingStoragePass=$SHARED/run/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
CONF
  else
    printf 'AccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none\n'
  fi
  printf 'JobCompType=jobcomp/filetxt\nJobCompLoc=%s/log/jobcomp.txt\n' "$DIR"
}

conf_nodes() {
  local i name gres=""
  [ "$GPUS" = 0 ] || gres="Gres=gpu:$GPUS"
  for ((i = 1; i <= NODES; i++)); do
    name=$HOST
    use_ns && name=node$i
    # One address and distinct ports: with distinct addresses srun inside a job hangs, since its connection leaves from 127.0.0.1.
    echo "NodeName=node$i NodeHostname=$name NodeAddr=127.0.0.1 Port=$((NODE_PORT + i)) CPUs=$CPUS RealMemory=$MEM $gres State=UNKNOWN"
  done
}

conf_partitions() {
  if [ -n "$PARTITIONS" ]; then
    printf '%s\n' "$PARTITIONS"
    return
  fi
  local low="Nodes=ALL MaxTime=08:00:00 DefaultTime=00:10:00 PriorityTier=1 State=UP"
  cat <<CONF
PartitionName=main Nodes=ALL Default=YES MaxTime=08:00:00 DefaultTime=00:10:00 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=preempt $low PreemptMode=REQUEUE
PartitionName=grace $low PreemptMode=REQUEUE GraceTime=15
PartitionName=cancel $low PreemptMode=CANCEL
PartitionName=short Nodes=node1 MaxTime=00:01:00 MaxNodes=1 PriorityTier=10 PreemptMode=OFF State=UP
CONF
}

conf_slurmdbd() {
  cat <<CONF
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
SlurmUser=$ME
PidFile=$DIR/run/slurmdbd.real.pid
LogFile=$DIR/log/slurmdbd.log
${1:+CommunicationParameters=NoInAddrAny}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$SQL_PORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
}
