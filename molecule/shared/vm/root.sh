#!/usr/bin/env bash
# root.sh VARIANT FOLDER KEY: makes FOLDER/base.qcow2 (a partitioned disk, yet without a boot loader), FOLDER/vmlinuz, FOLDER/initrd.img,
# FOLDER/cmdline and FOLDER/first-boot from Debian packages only, at this machine's own speed. KEY is the public ssh key that may log in.
# Packages that roles install stand in the image, as installing takes much longer in an emulated guest. Of what they bring, nginx and Tang
# are off; settings are Debian's own.
set -euo pipefail
variant=$1 o=$2 key=$3
suite=${variant%%-*}
root=$o/root
kernel_line="console=ttyS0"
disk="/ 12288"
packages="systemd-sysv libpam-systemd dbus udev openssh-server python3 python3-apt sudo acl iproute2 iputils-ping netbase ca-certificates curl openssl
  kmod procps psmisc less tzdata cron logrotate rsyslog chrony gpgv zstd e2fsprogs parted initramfs-tools linux-image-amd64 grub-pc apparmor
  lvm2 mdadm cryptsetup keyutils xfsprogs clevis clevis-luks clevis-systemd clevis-tpm2 jose tang tpm2-tools nftables nginx
  libnginx-mod-http-lua lua-cjson python3-cryptography"
case $variant in
  bookworm) ;;
  trixie) packages+=" systemd-cryptsetup" ;;
  bookworm-selinux)
    packages=${packages/ apparmor/}
    packages+=" auditd selinux-basics selinux-policy-default policycoreutils-python-utils python3-selinux python3-semanage semodule-utils
      checkpolicy secilc setools"
    kernel_line+=" security=selinux"
    ;;
  bookworm-server)
    packages+=" auditd audispd-plugins apparmor-utils aide aide-common libpam-pwquality unattended-upgrades debsums
      openscap-scanner lynis nmap"
    disk="/ 2048 /boot 512 /home 256 /opt 1024 /srv 512 /tmp 512 /usr 4096 /var 3072 /var/log 512 /var/log/audit 256 /var/tmp 512"
    ;;
  *)
    echo "There is no image variant '$variant'; there are bookworm, bookworm-selinux, bookworm-server and trixie." >&2
    exit 2
    ;;
esac
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
mirror=${mirror:-$(sed -n 's|^deb \(http[^ ]*\) .*|\1|p' /etc/apt/sources.list 2>/dev/null | head -1)}
mirror=${mirror:?no Debian mirror found in /etc/apt; add one to /etc/apt/sources.list.d/debian.sources}

# The initial file system holds what this machine type needs, so that a guest rebuilds it in seconds.
mkdir -p "$o/initramfs-tools/conf.d"
printf '%s\n' MODULES=list COMPRESS=zstd COMPRESSLEVEL=1 >"$o/initramfs-tools/conf.d/lab.conf"
printf '%s\n' virtio_pci virtio_blk virtio_net virtio_rng ext4 >"$o/initramfs-tools/modules"
# shellcheck disable=SC2086,SC2116  # one word a package
mmdebstrap --quiet --variant=minbase --include="$(echo $packages | tr ' ' ,)" --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --essential-hook="mkdir -p \$1/etc/initramfs-tools; cp -r '$o/initramfs-tools/.' \$1/etc/initramfs-tools/" --skip=cleanup/apt/lists \
  "$suite" "$root" "deb $mirror $suite main" "deb $mirror $suite-updates main" "deb $mirror-security $suite-security main"
cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
chroot "$root" update-ca-certificates >/dev/null 2>&1
chroot "$root" apt-cache gencaches
# 10.0.2.2 is this machine's loopback, seen from a guest's first network card.
echo 'Acquire::http::Proxy "http://10.0.2.2:3142";' >"$root/etc/apt/apt.conf.d/00lab-proxy"

# A guest that is resumed finds itself hours later: whatever its calendar missed would start at once, and hold apt's lock.
for unit in apt-daily.timer apt-daily-upgrade.timer dailyaidecheck.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  mdcheck_start.timer mdcheck_continue.timer mdmonitor-oneshot.timer nginx.service tangd.socket; do
  ! [ -e "$root/lib/systemd/system/$unit" ] || chroot "$root" systemctl -q disable "$unit"
done
chroot "$root" systemctl -q enable systemd-networkd.service ssh.service
printf '%s\n' '[Match]' MACAddress=02:00:0a:00:02:0f '[Network]' Address=10.0.2.15/24 Gateway=10.0.2.2 DNS=10.0.2.3 \
  LinkLocalAddressing=no IPv6AcceptRA=no >"$root/etc/systemd/network/10-lab.network"
echo nameserver 10.0.2.3 >"$root/etc/resolv.conf"
echo lab >"$root/etc/hostname"
printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 lab' '::1 localhost ip6-localhost ip6-loopback' >"$root/etc/hosts"
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
install -d -m 700 "$root/root/.ssh"
install -m 600 "$key" "$root/root/.ssh/authorized_keys"
mkdir -p "$root/etc/default/grub.d"
printf '%s\n' GRUB_TIMEOUT=0 'GRUB_TERMINAL="console serial"' 'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"' \
  'GRUB_CMDLINE_LINUX_DEFAULT="quiet"' "GRUB_CMDLINE_LINUX=\"$kernel_line\"" GRUB_DISABLE_OS_PROBER=true >"$root/etc/default/grub.d/lab.cfg"
echo 'grub-pc grub-pc/install_devices multiselect /dev/vda' | chroot "$root" debconf-set-selections
cp "$root"/boot/vmlinuz-* "$o/vmlinuz"
cp "$root"/boot/initrd.img-* "$o/initrd.img"

# A boot on a busy machine takes minutes, too: disks and services that are late are no failure of the guest.
install -d "$root/etc/systemd/system.conf.d"
printf '%s\n' '[Manager]' DefaultTimeoutStartSec=10min >"$root/etc/systemd/system.conf.d/lab.conf"
# Starting the user manager at each login costs seconds in a guest.
install -d "$root/var/lib/systemd/linger"
: >"$root/var/lib/systemd/linger/root"

# The partitions: where they start and end, and a file system's identity each.
read -ra words <<<"$disk"
table="label: gpt"$'\n'"start=2048,size=2048,type=21686148-6449-6E6F-744E-656564454649"
start=2 parts=()
printf '# <file system> <mount point> <type> <options> <dump> <pass>\n' >"$o/fstab"
for ((i = 0; i < ${#words[@]}; i += 2)); do
  point=${words[i]} size=${words[i + 1]} uuid=$(cat /proc/sys/kernel/random/uuid)
  table+=$'\n'"start=$((start * 2048)),size=$((size * 2048)),type=linux"
  [ "$point" = / ] && options=errors=remount-ro pass=1 || options=defaults pass=2
  [ "$point" != / ] || echo "root=UUID=$uuid ro quiet $kernel_line" >"$o/cmdline"
  echo "UUID=$uuid $point ext4 $options 0 $pass" >>"$o/fstab"
  parts=("$point $start $size $uuid" "${parts[@]}") # the deepest mount points first
  start=$((start + size))
done
cp "$o/fstab" "$root/etc/fstab"

if [ "$variant" = bookworm-selinux ]; then
  sed -i 's/^SELINUX=.*/SELINUX=enforcing/' "$root/etc/selinux/config"
  # Without /proc nothing is labelled, and setfiles does not say so.
  mount -t proc proc "$root/proc"
  trap 'umount "$root/proc"' EXIT
  chroot "$root" setfiles -F -e /proc -e /sys -e /dev /etc/selinux/default/contexts/files/file_contexts /
  umount "$root/proc"
  trap - EXIT
  python3 - "$root" <<'PYTHON'
import os
import sys

root = sys.argv[1]
for folder, kind in {"dev": "device_t", "proc": "proc_t", "sys": "sysfs_t"}.items():
    os.setxattr(f"{root}/{folder}", "security.selinux", f"system_u:object_r:{kind}:s0\0".encode())
label = os.getxattr(f"{root}/etc/shadow", "security.selinux")
if b":shadow_t:" not in label:
    sys.exit(f"SELinux labels are missing: /etc/shadow has {label!r}")
PYTHON
fi

# Each file system is made from its part of the tree, straight into its place on the disk: no loop device is needed.
truncate -s $((start + 1))M "$o/base.raw"
sfdisk -q "$o/base.raw" <<<"$table"
# A file system's own top folder gets its mode at the first boot; a boot loader wants the real disk as well.
printf '%s\n' 'set -e' 'grub-install /dev/vda' update-grub >"$o/first-boot"
for part in "${parts[@]}"; do
  read -r point at size uuid <<<"$part"
  tree=$root
  if [ "$point" != / ]; then
    tree=$o/part
    mv "$root$point" "$tree"
    install -d "$root$point"
    stat -c "chown %u:%g $point; chmod %a $point" "$tree" >>"$o/first-boot"
  fi
  mkfs.ext4 -q -F -U "$uuid" -O ^metadata_csum_seed -E offset=$((at << 20)),lazy_itable_init=0,lazy_journal_init=0 -d "$tree" "$o/base.raw" "${size}M"
  rm -rf "$tree"
done
printf '%s\n' 'fstrim -a' poweroff >>"$o/first-boot"
qemu-img convert -O qcow2 "$o/base.raw" "$o/base.qcow2"
rm -rf "$o/base.raw" "$o/initramfs-tools" "$o/fstab"
