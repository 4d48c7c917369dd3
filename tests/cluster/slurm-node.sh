#!/usr/bin/env bash
# A Slurm of one node for tests, with one pretend GPU:  slurm-node.sh start DIR | stop DIR
#
# For root with Debian's slurm-wlm. All state is under DIR; after start, SLURM_CONF=DIR/slurm.conf
# is what commands need. Ports lie off the usual ones, so that no other Slurm is disturbed.
set -euo pipefail

action=${1:?start or stop}
dir=$(realpath -m "${2:?a folder}")
export SLURM_CONF=$dir/slurm.conf

stop() {
  local name pid
  scontrol shutdown 2>/dev/null || true
  for name in slurmd slurmctld munged; do
    pid=$(cat "$dir/$name.pid" 2>/dev/null) || continue
    for _ in $(seq 50); do
      [ "$name" = munged ] || kill -0 "$pid" 2>/dev/null || break
      [ "$name" != munged ] || { kill "$pid" 2>/dev/null || true; break; }
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  done
}

configure() {
  local host cpus memory
  host=$(hostname -s) cpus=$(nproc)
  memory=$(awk '/MemTotal/{print int($2 / 1024) - 512}' /proc/meminfo)
  mkdir -p "$dir"/{state,spool,log,munge}
  chmod 755 "$dir"; chmod 700 "$dir/munge"
  [ -s "$dir/munge/key" ] || dd if=/dev/urandom of="$dir/munge/key" bs=1 count=128 status=none
  chmod 400 "$dir/munge/key"
  echo 'Name=gpu File=/dev/null' >"$dir/gres.conf"
  cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/completed.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
PropagateResourceLimits=NONE
ReturnToService=2
MpiDefault=none
MinJobAge=3600
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
CONF
}

start() {
  configure
  munged --force --key-file="$dir/munge/key" --socket="$dir/munge.sock" --pid-file="$dir/munged.pid" \
    --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed"
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF"
  for _ in $(seq 60); do
    if sinfo -h -o %T 2>/dev/null | grep -qE 'idle|mixed|alloc'; then return 0; fi
    sleep 0.5
  done
  tail -20 "$dir"/log/*.log >&2
  stop
  return 1
}

"$action"
