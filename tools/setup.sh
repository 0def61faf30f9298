#!/usr/bin/env bash
# Makes a checkout ready to build and run: system programs, npm packages. Says what it installs; does nothing that is done.
# Usage: tools/setup.sh [test|demo|bench]
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-}

need_node() {
  local version
  version=$(node -p 'process.versions.node' 2>/dev/null || echo 0.0)
  local major=${version%%.*} rest=${version#*.}
  if [ "$major" -lt 20 ] || { [ "$major" -eq 20 ] && [ "${rest%%.*}" -lt 15 ]; }; then
    echo "setup: Timeband needs Node.js 20.15 or newer, this is $version. Install it first (https://nodejs.org)." >&2
    exit 1
  fi
}

# program:Debian package. What building needs, what running needs, what the purpose adds.
programs="g++:g++ make:make python3:python3 mkfs.ext4:e2fsprogs losetup:mount mount:mount umount:mount partx:util-linux flock:util-linux blkid:util-linux sync:coreutils filefrag:e2fsprogs"
case $purpose in
  test) programs="$programs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs sfdisk:fdisk resize2fs:e2fsprogs fstrim:util-linux script:bsdutils ps:procps setpriv:util-linux diff:diffutils cmp:diffutils"
    programs="$programs /usr/bin/python3:python3 zstd:zstd setsid:util-linux qemu-img:qemu-utils qemu-io:qemu-utils qemu-nbd:qemu-utils qemu-storage-daemon:qemu-system-common nbdinfo:libnbd-bin" ;;
  bench) programs="$programs /usr/bin/time:time zstd:zstd mkfs.xfs:xfsprogs nbdcopy:libnbd-bin nbdkit:nbdkit" ;;
esac

# What Debian's own Python must import, as "module:package": the recovery script's tests run it.
modules=""
[ "$purpose" != test ] || modules="cryptography:python3-cryptography zstandard:python3-zstandard"

install_programs() {
  local missing=() entry
  for entry in $programs; do
    command -v "${entry%%:*}" >/dev/null 2>&1 || PATH=$PATH:/sbin:/usr/sbin command -v "${entry%%:*}" >/dev/null 2>&1 || missing+=("${entry##*:}")
  done
  for entry in $modules; do
    /usr/bin/python3 -c "import ${entry%%:*}" >/dev/null 2>&1 || missing+=("${entry##*:}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  local packages
  packages=$(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: these programs are missing; install the packages that hold them here (Debian's names): $packages" >&2
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "setup: as root, run: apt-get update && apt-get install -y $packages" >&2
    exit 1
  fi
  echo "setup: installing system packages: $packages"
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

install_modules() {
  if [ -e node_modules/.package-lock.json ] && [ ! package-lock.json -nt node_modules/.package-lock.json ] && [ ! package.json -nt node_modules/.package-lock.json ]; then return; fi
  echo "setup: installing npm packages (npm ci)"
  npm ci --no-audit --no-fund --loglevel=error
  touch node_modules/.package-lock.json
}

need_devices() {
  [ -e /dev/fuse ] || modprobe fuse 2>/dev/null || echo "setup: /dev/fuse is missing, so mounts will not work here" >&2
  [ -e /dev/loop-control ] || modprobe loop 2>/dev/null || echo "setup: /dev/loop-control is missing, so loop devices will not work here" >&2
}

need_node
install_programs
install_modules
[ -z "$purpose" ] || need_devices
