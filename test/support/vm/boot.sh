#!/usr/bin/env bash
# boot.sh VM SCRIPT DISK…: boots the machine that prepare.sh made at VM and runs SCRIPT in it, as root of this host's root
# file system, which it has read-only over 9p (so this host's Node runs there). /run is writable. Prints its console, whose
# last line is "guest: status N".
# All is emulated (accel=tcg), so it runs wherever qemu does; nested virtualisation is not needed. One processor: with two,
# emulated, Node's threads take three times as long.
set -euo pipefail
vm=$1 script=$2
shift 2
disks=()
for disk in "$@"; do disks+=(-drive "file=$disk,if=virtio,format=raw,cache=unsafe,discard=unmap"); done
export LD_LIBRARY_PATH=$vm/root/usr/lib/x86_64-linux-gnu:$vm/root/lib/x86_64-linux-gnu
# exec: whoever kills this process kills qemu.
exec "$vm/root/usr/bin/qemu-system-x86_64" -L "$vm/root/usr/share/qemu" -L "$vm/root/usr/share/seabios" \
  -machine q35,accel=tcg -cpu max -smp 1 -m 1536 -nodefaults -nographic -serial stdio -no-reboot \
  -kernel "$vm/vmlinuz" -initrd "$vm/initrd.gz" -append "console=ttyS0 quiet panic=-1 edd=off timeband.run=$script" \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap "${disks[@]}" </dev/null
