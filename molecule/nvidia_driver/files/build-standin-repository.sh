#!/usr/bin/env bash
# build-standin-repository.sh FOLDER: a local copy of NVIDIA's repository for Debian 12 made of STAND-INS.
#
# Names, versions and dependencies are those of the real packages; what is inside is not: a kernel module of ten lines that DKMS really
# builds, and programs that say their version. FOLDER/debian12/x86_64 is the repository, FOLDER/other-key one that another key signed.
set -euo pipefail
out=${1:?}
[ -s "$out/stamp" ] && [ "$out/stamp" -nt "$0" ] && exit
echo built
rm -rf "$out"
repo=$out/debian12/x86_64
mkdir -p "$repo" "$out/work"
export SOURCE_DATE_EPOCH=1764000000

# package NAME VERSION DEPENDS [FIELD: VALUE ...]; files lie in $root
root=$out/work/root
package() {
  local name=$1 version=$2 depends=$3
  shift 3
  mkdir -p "$root/DEBIAN"
  {
    printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: stand-in <standin@example.invalid>\n' "$name" "$version"
    [ -z "$depends" ] || echo "Depends: $depends"
    [ $# = 0 ] || printf '%s\n' "$@"
    echo "Description: stand-in for NVIDIA's package of this name"
  } >"$root/DEBIAN/control"
  dpkg-deb --root-owner-group --build "$root" "$repo/${name}_${version}_amd64.deb" >/dev/null
  rm -rf "$root"
}

pin() { # NAME VERSION-PATTERN: priority 1000 lets apt go down as well
  mkdir -p "$root/etc/apt/preferences.d"
  printf 'Package: nvidia-driver-cuda nvidia-open nvidia-kernel-* nvidia-smi nvidia-persistenced nvidia-fabricmanager libnvidia-* libcuda1 cuda-drivers* firmware-nvidia-*\nPin: version %s\nPin-Priority: 1000\n' "$2" >"$root/etc/apt/preferences.d/nvidia-driver-pinning"
  package "$1" "$3" "" "Provides: nvidia-driver-pinning" "Conflicts: nvidia-driver-pinning"
}

module() { # NAME DKMS-NAME VERSION LICENSE CONFLICTS
  local source=$root/usr/src/$2-$3
  mkdir -p "$source" "$root/DEBIAN"
  cat >"$source/nvidia.c" <<C
#include <linux/module.h>
/* A stand-in: it says what a driver of this version would say of itself, and drives nothing. */
MODULE_LICENSE("$4");
MODULE_VERSION("$3");
MODULE_DESCRIPTION("stand-in");
static int __init standin_init(void) { return 0; }
static void __exit standin_exit(void) { }
module_init(standin_init);
module_exit(standin_exit);
C
  echo 'obj-m := nvidia.o' >"$source/Makefile"
  printf 'PACKAGE_NAME="%s"\nPACKAGE_VERSION="%s"\nBUILT_MODULE_NAME[0]="nvidia"\nDEST_MODULE_LOCATION[0]="/updates/dkms"\nAUTOINSTALL="yes"\n' "$2" "$3" >"$source/dkms.conf"
  cat >>"$source/dkms.conf" <<DKMS
MAKE[0]="make -C \${kernel_source_dir} M=\${dkms_tree}/$2/$3/build modules"
CLEAN="true"
DKMS
  [ "$3" != 595.99.99 ] || echo '#error this stand-in does not build' >>"$source/nvidia.c"
  cat >"$root/DEBIAN/postinst" <<POSTINST
#!/bin/sh
set -e
[ "\$1" != configure ] || /usr/lib/dkms/common.postinst $2 $3
POSTINST
  printf '#!/bin/sh\nset -e\ndkms remove %s/%s --all >/dev/null 2>&1 || true\n' "$2" "$3" >"$root/DEBIAN/prerm"
  chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
  package "$1" "$3-1" "dkms, nvidia-kernel-support (= $3-1)" "Provides: nvidia-kernel-dkms-any" "Conflicts: $5"
}

program() { # PATH TEXT
  mkdir -p "$root/${1%/*}"
  printf '#!/bin/sh\n# A stand-in.\necho "%s"\n' "$2" >"$root/$1"
  chmod 755 "$root/$1"
}

for v in 580.159.03 580.178.04 595.71.05 595.91.07 595.99.99 610.57.04; do
  pin "nvidia-driver-pinning-$v" "$v-*" "$v-1"
  package nvidia-kernel-support "$v-1" ""
  module nvidia-kernel-open-dkms nvidia-open "$v" "Dual MIT/GPL" nvidia-kernel-dkms
  module nvidia-kernel-dkms nvidia "$v" NVIDIA nvidia-kernel-open-dkms
  package firmware-nvidia-gsp "$v-1" ""
  package libcuda1 "$v-1" "nvidia-kernel-support (= $v-1)"
  program usr/bin/nvidia-smi "stand-in $v"
  package nvidia-smi "$v-1" "libcuda1 (= $v-1)"
  mkdir -p "$root/lib/systemd/system"
  printf '[Unit]\nDescription=stand-in\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' >"$root/lib/systemd/system/nvidia-persistenced.service"
  package nvidia-persistenced "$v-1" "libcuda1 (= $v-1)"
  package nvidia-driver-cuda "$v-1" "libcuda1 (= $v-1), nvidia-smi (= $v-1), nvidia-persistenced (= $v-1), firmware-nvidia-gsp (= $v-1)"
  package nvidia-open "$v-1" "nvidia-driver-cuda (= $v-1), nvidia-kernel-open-dkms (= $v-1)"
  package cuda-drivers "$v-1" "nvidia-driver-cuda (= $v-1), nvidia-kernel-dkms (= $v-1)"
  mkdir -p "$root/lib/systemd/system"
  printf '[Unit]\nDescription=stand-in\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' >"$root/lib/systemd/system/nvidia-fabricmanager.service"
  package nvidia-fabricmanager "$v-1" ""
  package libnvidia-nscq "$v-1" ""
done
for b in 580:580.178.04 610:610.57.04; do pin "nvidia-driver-pinning-${b%:*}" "${b%:*}.*" "${b#*:}-1"; done
# The newest of 595 does not build; only who asks for it gets it.
pin nvidia-driver-pinning-595 '595.91.*' 595.91.07-1

GNUPGHOME=$out/work/gpg
mkdir -p "$GNUPGHOME"
chmod 700 "$GNUPGHOME"
export GNUPGHOME
key() { gpg --batch --quiet --passphrase '' --quick-generate-key "$1 (stand-in) <$1@example.invalid>" rsa2048 sign never 2>/dev/null; }
key good
key other
sign() { # FOLDER KEY
  (
    cd "$1"
    for deb in *.deb; do
      dpkg-deb --field "$deb"
      printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
    done >Packages
    printf 'Origin: NVIDIA\nLabel: NVIDIA CUDA (stand-in)\nDate: %s\nSHA256:\n %s %s Packages\n' "$(date -Ru)" "$(sha256sum Packages | cut -d ' ' -f 1)" "$(stat -c %s Packages)" >Release
  )
  gpg --batch --quiet --yes --local-user "$2" --clearsign --output "$1/InRelease" "$1/Release"
  gpg --batch --quiet --export --armor "$2" >"$1/3bf863cc.pub"
}
sign "$repo" good@example.invalid
mkdir -p "$out/other-key/debian12"
cp -r "$repo" "$out/other-key/debian12/"
sign "$out/other-key/debian12/x86_64" other@example.invalid
gpg --list-keys --with-colons good@example.invalid | awk -F: '/^fpr/ { print $10; exit }' >"$out/fingerprint"
gpgconf --kill all
touch "$out/stamp"
