#!/bin/bash
# systemd as the first process of its namespaces, with no units but the targets that services name.
# Run it by: unshare --pid --fork --mount --cgroup --uts --ipc --mount-proc boot.sh
set -e
UNITS=/etc/systemd/system
mount --make-rprivate /
for dir in /run $UNITS; do
    mount -t tmpfs -o mode=755 tmpfs $dir
done
for target in sysinit basic network-online multi-user shutdown; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $target >$UNITS/$target.target
done
export SYSTEMD_UNIT_PATH=$UNITS container=lab
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=null
