#!/usr/bin/env bash
# build-image.sh [SUITE[-server]]: makes the test host image localhost/lab/host:SUITE (Debian with systemd) from Debian packages only.
# SUITE-server adds what an installed server has and an auditor looks for: kernel, boot loader, audit daemon. Without them
# most rules of an auditor do not apply, and its score says nothing.
set -euo pipefail
variant=${1:-bookworm}
suite=${variant%-server}
tag=localhost/lab/host:$variant
here=$(dirname "$(readlink -f "$0")")
exec 9>"${LAB:?set LAB to the state folder}/image-$variant.lock"
flock 9
podman image exists "$tag" && exit 0
echo "Building test host image $tag (about a minute)"
o=$(mktemp -d "$LAB/img.XXXX")
trap 'rm -rf "$o"' EXIT
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
mirror=${mirror:-$(sed -n 's|^deb \(http[^ ]*\) .*|\1|p' /etc/apt/sources.list 2>/dev/null | head -1)}
mirror=${mirror:?no Debian mirror found in /etc/apt; add one to /etc/apt/sources.list.d/debian.sources}
packages=systemd,systemd-sysv,libpam-systemd,dbus,python3,python3-apt,openssh-server,iproute2,iputils-ping,procps,nftables,ca-certificates,sudo,kmod,less,tzdata
if [ "$variant" != "$suite" ]; then
  packages=$packages,linux-image-cloud-$(dpkg --print-architecture),initramfs-tools,grub2-common,grub-pc-bin,auditd,rsyslog,cron,logrotate,openscap-scanner
fi
mkdir "$o/ca" "$o/chrony.service.d" "$o/journald.conf.d"
cp /usr/local/share/ca-certificates/*.crt "$o/ca/" 2>/dev/null || true
# No CAP_SYS_TIME in test hosts: the clock is the machine's. Should chrony be installed, it runs and leaves the clock alone (-x).
printf '%s\n' '[Unit]' ConditionCapability= '[Service]' EnvironmentFile=/etc/lab-chrony.env >"$o/chrony.service.d/lab.conf"
echo 'DAEMON_OPTS="-F 1 -x"' >"$o/lab-chrony.env"
printf '%s\n' '[Journal]' Storage=persistent SystemMaxUse=64M >"$o/journald.conf.d/lab.conf"
# Each host has a boot id of its own: ansible.builtin.reboot waits for it to change.
cat >"$o/lab-boot-id.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Before=systemd-journald.service sysinit.target
ConditionPathIsReadWrite=/proc/sys
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cat /proc/sys/kernel/random/uuid >/run/boot_id && mount --bind /run/boot_id /proc/sys/kernel/random/boot_id'
[Install]
WantedBy=sysinit.target
UNIT
cat >"$o/lab-ssh-keys.service" <<'UNIT'
[Unit]
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
[Install]
WantedBy=multi-user.target
UNIT
# shellcheck disable=SC2016  # $1 is for the shell that mmdebstrap starts
mmdebstrap --quiet --variant=apt --include="$packages" --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="copy-in $here/lab-init /usr/local/sbin" --customize-hook="copy-in $o/lab-chrony.env /etc" \
  --customize-hook="copy-in $o/lab-boot-id.service $o/lab-ssh-keys.service $o/chrony.service.d /etc/systemd/system" \
  --customize-hook="copy-in $o/journald.conf.d /etc/systemd" --customize-hook="sync-in $o/ca /usr/local/share/ca-certificates" \
  --customize-hook='chroot "$1" update-ca-certificates >/dev/null 2>&1; chroot "$1" systemctl -q enable lab-boot-id.service lab-ssh-keys.service' \
  --customize-hook='chroot "$1" systemctl -q mask systemd-networkd.service systemd-resolved.service getty.target console-getty.service' \
  --customize-hook='cd "$1"; rm -f etc/ssh/ssh_host_* var/lib/dbus/machine-id etc/resolv.conf etc/hostname etc/hosts; : > etc/machine-id' \
  "$suite" "$o/root.tar" "deb $mirror $suite main" "deb $mirror $suite-updates main" "deb $mirror-security $suite-security main"
podman import -q -c 'CMD ["/usr/local/sbin/lab-init"]' -c 'STOPSIGNAL SIGRTMIN+3' "$o/root.tar" "$tag"
