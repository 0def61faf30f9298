#!/usr/bin/env bash
# Fetches what a small virtual machine needs (a kernel, qemu, busybox, lvm2, thin-provisioning-tools) from Debian's archive
# and unpacks it beside the system: nothing is installed. Prints the folder; a second run only prints it.
# Exit status 69 and a reason on stderr where that is not possible.
set -euo pipefail
cd /
PATH=$PATH:/usr/sbin:/sbin
unavailable() {
  echo "$*" >&2
  exit 69
}

for tool in apt-get apt-cache dpkg-deb gzip flock; do
  command -v "$tool" >/dev/null || unavailable "the packages of the virtual machine cannot be fetched: there is no $tool here (Debian is needed)"
done
[ "$(dpkg --print-architecture)" = amd64 ] || unavailable "the virtual machine is for x86-64"

kernel_release() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: linux-image-\([0-9].*\)/\1/p' | head -n 1; }
candidate() { apt-cache policy "$1" | sed -n 's/^  Candidate: //p' | tr -dc 'A-Za-z0-9.+-'; }
release=$(kernel_release)
if [ -z "$release" ]; then
  apt-get update -qq >/dev/null 2>&1 || true
  release=$(kernel_release)
fi
[ -n "$release" ] || unavailable "apt knows no package linux-image-amd64, which the virtual machine boots"

base=${TMPDIR:-/tmp}/timeband-vm-$(id -u)
mkdir -p -m 700 "$base"
[ -O "$base" ] && [ ! -L "$base" ] || unavailable "$base belongs to somebody else"
# The number is that of this script's layout: raise it when the modules or the steps below change.
vm=$base/2-$release-$(candidate qemu-system-x86)-$(candidate lvm2)
exec 9>"$base/lock"
flock 9
if [ -e "$vm/initrd.gz" ]; then
  echo "$vm"
  exit 0
fi

work=$(mktemp -d "$base/unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{debs,root}
fetch() (
  cd "$work/debs"
  # A program that is installed is unpacked again, so that all of them are in one place; libraries that are there are used.
  local named="qemu-system-x86 qemu-system-common qemu-system-data seabios busybox-static lvm2 dmsetup thin-provisioning-tools linux-image-$release"
  local libraries
  # shellcheck disable=SC2086
  libraries=$(apt-get -s -o APT::Get::Show-User-Simulation-Note=0 --no-install-recommends install ${named/linux-image-$release/} | awk '/^Inst/ { print $2 }')
  # shellcheck disable=SC2086
  apt-get download -qq -o APT::Sandbox::User=root $(printf '%s\n' $named $libraries | sort -u)
)
if ! fetch >/dev/null 2>"$work/log"; then
  apt-get update -qq >/dev/null 2>&1 || true
  fetch >/dev/null 2>"$work/log" || unavailable "the packages of the virtual machine cannot be fetched: $(tail -n 1 "$work/log")"
fi
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
rm -r "$work/debs"
cp "$work/root/boot/vmlinuz-$release" "$work/vmlinuz"

initrd=$work/initrd
mkdir -p "$initrd"/{bin,modules,proc,sys,dev,host}
cp "$work"/root/bin/busybox "$initrd/bin/" 2>/dev/null || cp "$work"/root/usr/bin/busybox "$initrd/bin/"
# In the order in which they are loaded: each after those that it needs.
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk crc32c_generic libcrc32c \
  dm-mod dm-bufio dm-bio-prison dm-persistent-data dm-thin-pool dm-snapshot netfs fscache 9pnet 9pnet_virtio 9p; do
  file=$(find "$work/root" -path "*/modules/$release/*" -name "$module.ko" | head -n 1)
  [ -n "$file" ] || continue # built into the kernel
  cp "$file" "$initrd/modules/"
  echo "$module.ko" >>"$initrd/modules/order"
done
# The tools that run in the machine, with their libraries: they are copied into its memory, where they start faster.
mkdir -p "$work"/tools/{bin,lib}
for tool in lvm dmsetup thin_delta; do
  cp -L "$(find "$work/root" -path "*/sbin/$tool" | head -n 1)" "$work/tools/bin/"
  LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu:$work/root/lib/x86_64-linux-gnu ldd "$work/tools/bin/$tool" |
    sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | while read -r library; do cp -L "$library" "$work/tools/lib/"; done
done
rm -rf "$work"/root/lib/modules "$work"/root/usr/lib/modules "$work"/root/boot "$work"/root/usr/share/doc

cat >"$initrd/init" <<'INIT'
#!/bin/busybox sh
# Mounts the host's root read-only over 9p and runs there the script that the kernel's command line names.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module" || echo "guest: insmod $module failed"; done </modules/order
run=$(sed -n 's/.*timeband\.run=\([^ ]*\).*/\1/p' /proc/cmdline)
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /host &&
  mount --bind /dev /host/dev && mount -t proc proc /host/proc && mount -t sysfs sys /host/sys && mount -t tmpfs run /host/run &&
  mkdir -p /host/run/lock/lvm && chroot /host /bin/bash "$run"
echo "guest: status $?"
poweroff -f
INIT
chmod 755 "$initrd/init"
(cd "$initrd" && find . | "$initrd/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd.gz"
rm -rf "$initrd" "$work/log"
chmod 700 "$work"
mv "$work" "$vm"
echo "$vm"
