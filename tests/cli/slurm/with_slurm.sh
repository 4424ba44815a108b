#!/usr/bin/env bash
# A real SLURM of one node for the time of one command, in a mount, network and process namespace of its own: nothing
# of it stays on the machine.   with_slurm.sh COMMAND [ARG ...]   (as root; Debian's slurm-wlm and munge)
set -euo pipefail
if [ "${1:-}" != --inside ]; then
  here="$(cd "$(dirname "$0")" && pwd)"
  exec unshare --mount --net --pid --uts --fork --mount-proc bash "$0" --inside "$here" "$PWD" "$@"
fi
shift
here="$1" cwd="$2"
shift 2
ip link set lo up
ip addr add 127.0.0.2/8 dev lo # with 127.0.0.1 alone SLURM finds no name
hostname vm
for place in /run /var/spool /var/log; do mount -t tmpfs tmpfs "$place"; done
mkdir -p /run/munge /var/log/munge /var/spool/slurmd /var/spool/slurmctld
mount -t tmpfs tmpfs /etc/slurm
cp "$here/slurm.conf" /etc/slurm/slurm.conf
printf '127.0.0.1 localhost vm\n' > /run/hosts
mount --bind /run/hosts /etc/hosts
chown munge /run/munge /var/log/munge
su -s /bin/sh munge -c /usr/sbin/munged
slurmctld
slurmd
for _ in $(seq 60); do timeout 3 sinfo -h -o %T 2> /dev/null | grep -q idle && break; sleep 0.5; done
cd "$cwd"
"$@"
