#!/bin/sh
# The first process of the user-mode guest: serves an ext4 disk by nfs-ganesha, mounts it thrice by the kernel's own
# client, runs pytest, and powers off. The host's tree is the root, read-only. Kernel parameters arrive as variables:
# NFS_REPO, NFS_OUT (a folder of the host that may be written), NFS_VERSION, NFS_NODE_OPTIONS (of the second mount),
# NFS_ATTRIBUTE_SECONDS (what these make of its attribute cache), NFS_SECONDS.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8

say() { echo "guest: $*"; }

power_off() {
    sync
    echo o > /proc/sysrq-trigger
    sleep 60
}

fail() {
    say "$*"
    [ -f /run/ganesha.log ] && tail -n 20 /run/ganesha.log
    power_off
}

folders() {
    mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t tmpfs run /run && mount -t tmpfs mnt /mnt
    mkdir -p /dev/shm /mnt/lib /mnt/disk /mnt/site /mnt/nodes /mnt/other /mnt/out /run/recovery /run/rpcbind
    mount -t tmpfs shm /dev/shm
    mount -t hostfs none /mnt/out -o "$NFS_OUT" || fail "cannot write to $NFS_OUT"
    mkfs.ext4 -F -q /dev/ubda && mount /dev/ubda /mnt/disk || fail "no disk"
    mkdir -p /mnt/disk/export /mnt/disk/tmp
    mount --bind /mnt/disk/tmp /tmp
    # a repository below /tmp is hidden by that, and gets its place again
    [ -d "$NFS_REPO" ] || { mkdir -p "$NFS_REPO" && mount -t hostfs none "$NFS_REPO" -o "$NFS_REPO"; }
    mount -t tmpfs nfs /var/lib/nfs
    ip link set lo up
    hostname guest
}

serve() {
    ln -s /usr/lib/uml/modules /mnt/lib/modules
    for module in nfs nfsv3 nfsv4; do modprobe -d /mnt "$module" || fail "no kernel module $module"; done
    protocols=4
    [ "$NFS_VERSION" = 3 ] && rpcbind && protocols=3
    sed "s/^    Protocols = .*/    Protocols = $protocols;/" "$NFS_REPO/tools/nfs/ganesha.conf" > /run/ganesha.conf
    ganesha.nfsd -f /run/ganesha.conf -L /run/ganesha.log -p /run/ganesha.pid
    for _ in $(seq 50); do
        ss -ltn | grep -q ':2049 ' && return
        sleep 0.5
    done
    fail "nfs-ganesha did not start"
}

# Three clients that share neither pages nor attributes: what one changes the others learn only as from another host.
mount_thrice() {
    export=127.0.0.1:/mnt/disk/export
    options="nosharecache,timeo=100,retrans=3,nolock,vers=$NFS_VERSION"
    [ "$NFS_VERSION" = 3 ] && options="$options,proto=tcp,mountproto=tcp"
    timeout 60 mount -t nfs -o "$options" "$export" /mnt/site || fail "the export cannot be mounted"
    timeout 60 mount -t nfs -o "$options,$NFS_NODE_OPTIONS" "$export" /mnt/nodes ||
        fail "the export cannot be mounted for the nodes"
    timeout 60 mount -t nfs -o "$options" "$export" /mnt/other || fail "the export cannot be mounted for another manager"
    grep ' nfs' /proc/mounts
}

run_tests() {
    export HOME=/tmp PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
    export MILLRACE_TEST_SITE_ROOT=/mnt/site MILLRACE_TEST_NODE_ROOT=/mnt/nodes MILLRACE_TEST_OTHER_ROOT=/mnt/other
    export MILLRACE_TEST_ATTRIBUTE_SECONDS="$NFS_ATTRIBUTE_SECONDS" MILLRACE_TEST_PATIENCE=10
    cd "$NFS_REPO" || fail "no $NFS_REPO"
    xargs -a /mnt/out/arguments -d '\n' timeout -k 10 "$NFS_SECONDS" .venv/bin/python -m pytest
    # xargs says 123 for any code from 1 to 125
    echo $? > /mnt/out/exit-code
    cp /run/ganesha.log /mnt/out/
    dmesg | grep -iE 'nfs|rpc|error|bug' > /mnt/out/kernel.log
    say "silly-renamed files left on the server: $(find /mnt/disk/export -name '.nfs*' | wc -l)"
}

folders
serve
mount_thrice
run_tests
power_off
