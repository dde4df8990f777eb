# The first process of a container, in mount, PID, UTS, IPC and network namespaces of its own.
#   sandbox.sh SCRATCH HOSTNAME WORKDIR MOUNTS -- COMMAND...
# SCRATCH is an empty folder; MOUNTS a file of lines "ro|rw<TAB>source<TAB>target"; the environment is the container's.
set -e
scratch=$1 name=$2 workdir=$3 mounts=$4
shift 5
PATH_OF_CONTAINER=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
hostname "$name"

# This machine's files under a layer that goes away with the namespace.
mount -t tmpfs -o mode=755 tmpfs "$scratch"
root=$scratch/root
mkdir "$scratch/upper" "$scratch/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"

while IFS='	' read -r mode source target; do
    if [ -d "$source" ]; then
        mkdir -p "$root$target"
    else
        mkdir -p "$(dirname "$root$target")"
        [ -e "$root$target" ] || touch "$root$target"
    fi
    mount --bind "$source" "$root$target"
    if [ "$mode" = ro ]; then mount -o remount,bind,ro "$root$target"; fi
done <"$mounts"

mkdir -p "$root$workdir"
PATH=$PATH_OF_CONTAINER
unset PATH_OF_CONTAINER
exec /usr/sbin/chroot "$root" /usr/bin/env --chdir="$workdir" "$@"
