//! An installed Debian system: a root image with systemd, udev and Xen's tools, the project's packages put in by apt, and the agent as
//! a service.

use crate::command;
use crate::dist;
use crate::host::{self, Need};
use crate::kernel;
use crate::packages;
use crate::progress::step;
use crate::suite::Suite;
use crate::workspace;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What making it takes.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        program: "mmdebstrap",
        package: "mmdebstrap",
    },
    Need {
        program: "mke2fs",
        package: "e2fsprogs",
    },
];

/// How large its disk is; the file has holes.
const SIZE: &str = "3G";

/// The version that an upgrade in the system is to.
const NEWER: &str = "0.1.0-2";

/// What is installed; `{xen}` stands for Xen's version.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "initramfs-tools",
    "dracut-core",
    "zstd",
    "linux-image-amd64",
    "xen-hypervisor-{xen}-amd64",
    "xen-hypervisor-common",
    "xen-utils-{xen}",
    "xenstore-utils",
    "e2fsprogs",
    "ndctl",
    "cxl",
    // What an administrator's own script would use.
    "gdisk",
    "grub2-common",
    "grub-pc-bin",
];

/// Starts the agent as soon as anything else.
const AGENT_UNIT: &str = "[Unit]
Description=Does what the host asks
[Service]
ExecStart=/usr/local/sbin/xen-pmem-agent
[Install]
WantedBy=multi-user.target
";

/// The modules that GRUB needs to find the others, which are on the system's disk.
const GRUB_MODULES: &str = "biosdisk ext2 search search_fs_file";

/// How GRUB begins: with the menu that is on the system's disk.
const GRUB_START: &str = "search --no-floppy --set=root --file /boot/grub/grub.cfg
set prefix=($root)/boot/grub
";

/// Installs the packages in the root that is the first argument, with what the second, a folder, holds; makes the image of it as the
/// third, of the size that is the fourth, and saves kernel and initramfs in the second. The fifth are modules of GRUB.
///
/// The initramfs holds the modules that this machine needs and what hooks put in: all others would only take time to unpack. After the
/// packages are installed it is not made again: emulated, that takes minutes.
const INSTALL: &str = r#"set -eu
root=$1 given=$2 image=$3
export DEBIAN_FRONTEND=noninteractive
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/var/cache/packages" "$root/var/cache/newer"
echo MODULES=list >"$root/etc/initramfs-tools/conf.d/machine"
printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
# In the initramfs, and then at boot, udev hears of firmware's devices, PCI's, and of all below NVDIMMs, CXL memory and disks, not of each terminal.
coldplug='udevadm trigger --action=add --subsystem-match=acpi --subsystem-match=pci --subsystem-match=cxl --subsystem-match=nd --subsystem-match=dax --subsystem-match=block'
mkdir -p "$root/etc/initramfs-tools/scripts/init-top"
printf '%s\n' '#!/bin/sh' '[ "$1" != prereqs ] || exit 0' '/usr/lib/systemd/systemd-udevd --daemon --resolve-names=never' \
    "$coldplug" 'udevadm settle' >"$root/etc/initramfs-tools/scripts/init-top/udev"
chmod 755 "$root/etc/initramfs-tools/scripts/init-top/udev"
cp "$given"/packages/*.deb "$root/var/cache/packages"
cp "$given"/newer/*.deb "$root/var/cache/newer"
chroot "$root" sh -c 'apt-get install -y --no-install-recommends /var/cache/packages/*.deb'
kernel=$(basename "$root"/boot/vmlinuz-* | sed s/vmlinuz-//)
chroot "$root" dracut --quiet --force --kver "$kernel" --no-hostonly --modules 'base rootfs-block udev-rules xen-pmem' \
    --add-drivers 'virtio_pci virtio_blk ext4' /boot/dracut.img "$kernel"
echo update_initramfs=no >"$root/etc/initramfs-tools/update-initramfs.conf"
install -m 755 "$given/agent" "$root/usr/local/sbin/xen-pmem-agent"
install -m 755 "$given/stopwatch" "$root/usr/local/sbin/xen-pmem-stopwatch"
cp "$given/agent.service" "$root/etc/systemd/system/xen-pmem-agent.service"
chroot "$root" systemctl enable xen-pmem-agent.service
# Fails where NVDIMMs do not tell their health, as QEMU's do not.
chroot "$root" systemctl mask ndctl-monitor.service
# Have nothing to do with any of this, and take their time, emulated.
chroot "$root" systemctl mask cxl-monitor.service e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer fstrim.timer systemd-tmpfiles-clean.timer getty@.service serial-getty@.service dracut-shutdown.service \
    systemd-logind.service systemd-user-sessions.service systemd-binfmt.service systemd-pstore.service systemd-random-seed.service \
    systemd-journal-flush.service systemd-remount-fs.service systemd-udev-load-credentials.service systemd-sysctl.service \
    systemd-update-utmp.service systemd-tmpfiles-setup-dev-early.service systemd-ask-password-console.path systemd-ask-password-wall.path \
    systemd-creds.socket systemd-hostnamed.socket systemd-sysext.socket systemd-initctl.socket run-lock.mount \
    modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@dm_mod.service \
    modprobe@loop.service sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    dev-mqueue.mount dev-hugepages.mount proc-sys-fs-binfmt_misc.automount
# Of what makes units up, and is asked at each reload: what may have to do with the image's units.
mkdir -p "$root/etc/systemd/system-generators"
for generator in "$root"/usr/lib/systemd/system-generators/*; do
    case ${generator##*/} in
    systemd-fstab-generator | systemd-sysv-generator) ;;
    *) ln -s /dev/null "$root/etc/systemd/system-generators/${generator##*/}" ;;
    esac
done
mkdir -p "$root/etc/systemd/system/systemd-udev-trigger.service.d"
printf '%s\n' '[Service]' 'ExecStart=' "ExecStart=$coldplug" >"$root/etc/systemd/system/systemd-udev-trigger.service.d/machine.conf"
# Nobody needs the disk after a crash.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/machine"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '%s\n' '[Journal]' 'Storage=volatile' >"$root/etc/systemd/journald.conf.d/machine.conf"
# Hardware that the emulated machine has, and nobody here needs.
printf 'blacklist %s\n' iTCO_wdt lpc_ich pcspkr aesni_intel ghash_clmulni_intel cryptd sha1_ssse3 sha256_ssse3 sha512_ssse3 \
    crct10dif_pclmul crc32_pclmul polyval_clmulni kvm_amd ccp acpi_cpufreq powernow_k8 intel_rapl_msr rapl evdev button vga16fb qemu_fw_cfg \
    >"$root/etc/modprobe.d/machine.conf"
# What could be installed: apt would read all of it, emulated, for a package that it is given.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
chroot "$root" systemctl set-default multi-user.target
# The boot loader, as a program that QEMU starts in place of a disk's boot sector.
mkdir "$root/boot/grub"
cp -r "$root/usr/lib/grub/i386-pc" "$root/boot/grub/"
cp "$root/usr/share/grub/default/grub" "$root/etc/default/grub"
cp "$given/grub.cfg" "$root/tmp/grub.cfg"
chroot "$root" grub-mkimage --format i386-pc --prefix /boot/grub --config /tmp/grub.cfg --output /tmp/core.img $5
cat "$root/usr/lib/grub/i386-pc/lnxboot.img" "$root/tmp/core.img" >"$given/grub"
rm "$root/tmp/grub.cfg" "$root/tmp/core.img"
cp "$root"/boot/vmlinuz-* "$given/vmlinuz"
cp "$root"/boot/initrd.img-* "$given/initramfs"
cp "$root"/boot/dracut.img "$given/dracut"
echo host >"$root/etc/hostname"
# A copy without what is mounted there, which mke2fs would take along, and without what keeps services from starting meanwhile.
mkdir "$given/tree"
tar --one-file-system -C "$root" -cf - . | tar -C "$given/tree" -xpf -
if [ -e "$given/tree/usr/sbin/start-stop-daemon.REAL" ]; then
    mv "$given/tree/usr/sbin/start-stop-daemon.REAL" "$given/tree/usr/sbin/start-stop-daemon"
fi
rm -f "$given/tree/usr/sbin/policy-rc.d"
# Nothing is out of date: what systemd does after an update it needs not do at each boot.
touch "$given/tree/etc/.updated" "$given/tree/var/.updated"
mke2fs -q -t ext4 -F -d "$given/tree" "$image" "$4"
rm -rf "$given/tree"
"#;

/// Makes the system, unless nothing has changed since it was made. Returns what the manifest says of it.
///
/// # Errors
///
/// If packages cannot be fetched or built, or a step of the installation fails.
pub(crate) fn prepare(suite: Suite, agent: &Path, stopwatch: &Path) -> Result<Value> {
    host::install(NEEDS)?;
    let folder = workspace::e2e(suite.name())?.join("system");
    fs::create_dir_all(&folder)?;
    let given = folder.join("given");
    let base = base(suite, &folder)?;
    let packages = dist::packages(&folder.join("packages"), None)?;
    let newer = dist::packages(&folder.join("newer"), Some(NEWER))?;

    let mut recipe = DefaultHasher::new();
    include_str!("system.rs").hash(&mut recipe);
    for file in packages
        .iter()
        .map(PathBuf::as_path)
        .chain(newer.iter().map(PathBuf::as_path))
        .chain([agent, stopwatch])
    {
        fs::read(file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .hash(&mut recipe);
    }
    let stamp = format!("{:016x}\n", recipe.finish());
    let stamp_file = folder.join("stamp");
    let image = folder.join("root.img");
    if fs::read_to_string(&stamp_file).is_ok_and(|made| made == stamp) {
        return Ok(manifest(&image, &given));
    }

    step("installing the packages in a Debian system");
    workspace::discard(&given)?;
    for (name, files) in [("packages", &packages), ("newer", &newer)] {
        fs::create_dir_all(given.join(name))?;
        for file in files {
            fs::copy(file, given.join(name).join(file.file_name().unwrap_or_default()))?;
        }
    }
    fs::copy(agent, given.join("agent"))?;
    fs::copy(stopwatch, given.join("stopwatch"))?;
    fs::write(given.join("agent.service"), AGENT_UNIT)?;
    fs::write(given.join("grub.cfg"), GRUB_START)?;
    let script = given.join("install");
    fs::write(&script, INSTALL)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let unpack = format!("tar -C \"$1\" -xf {}", quoted(&base));
    let install = format!(
        "sh {} \"$1\" {} {} {SIZE} '{GRUB_MODULES}'",
        quoted(&script),
        quoted(&given),
        quoted(&image)
    );
    let log = command::output_of_both(
        Command::new("mmdebstrap")
            .args(["--variant=custom", "--skip=update", "--format=null"])
            .arg(format!("--setup-hook={unpack}"))
            .arg(format!("--customize-hook={install}"))
            .arg(suite.name())
            .arg("-")
            .arg(packages::source_line(suite)?),
    )?;
    fs::write(folder.join("install.log"), log)?;
    fs::write(given.join("vmlinux"), kernel::unpacked(&given.join("vmlinuz"))?)?;
    // Last: without it, all is done again.
    fs::write(&stamp_file, stamp)?;
    Ok(manifest(&image, &given))
}

fn manifest(image: &Path, given: &Path) -> Value {
    json!({
        "image": image,
        "vmlinux": given.join("vmlinux"),
        "vmlinuz": given.join("vmlinuz"),
        "initramfs": given.join("initramfs"),
        "dracut": given.join("dracut"),
        "grub": given.join("grub"),
    })
}

/// Returns the system without the project's packages, as an archive.
fn base(suite: Suite, folder: &Path) -> Result<PathBuf> {
    let packages: Vec<String> = PACKAGES
        .iter()
        .filter(|package| **package != "cxl" || suite.has_cxl())
        .map(|package| package.replace("{xen}", suite.xen_version()))
        .collect();
    let wanted = packages.join(",");
    let (base, stamp) = (folder.join("base.tar"), folder.join("base.stamp"));
    if base.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(base);
    }
    step(&format!("installing Debian {} (a minute or two)", suite.name()));
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--variant=minbase", "--aptopt=APT::Install-Recommends \"false\""]);
    if suite.in_the_making() {
        // A mirror may be behind, and its lists expired: see `Apt::update`.
        mmdebstrap.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    }
    command::output_of_both(
        mmdebstrap
            .arg(format!("--include={wanted}"))
            .arg(suite.name())
            .arg(&base)
            .arg(packages::source_line(suite)?),
    )?;
    fs::write(&stamp, wanted)?;
    Ok(base)
}

/// Returns a path as a word of a shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
