//! The operator's guide, command by command, on an installed system: from Debian's packages and ours to a guest with persistent memory.
//! What is installed stays, the boot loader starts it, and the guest is one that the operator has had before.

use super::{NVDIMM_SIZE, Run, installed};
use crate::disk;
use crate::documents::{self, Place};
use crate::image;
use crate::machine::{self, Config, Initramfs, Kind, Nvdimm, Root};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Where commands are run.
const FOLDER: &str = "/root";
/// How long a guest may take to give its shell, and a command there.
const GUEST_LIMIT: Duration = Duration::from_secs(120);

/// The operator's guest, before it gets persistent memory.
const GUEST: &str = "name = 'web'
type = 'pvh'
memory = 512
vcpus = 1
kernel = '/srv/web/vmlinuz'
ramdisk = '/srv/web/initrd'
extra = 'console=hvc0 loglevel=4 mitigations=off cryptomgr.notests norandmaps nokaslr rdinit=/usr/bin/sh'
";
/// What that guest does when it boots: its first process is a shell.
const GUEST_BOOT: &str = "busybox mount -t proc proc /proc && busybox --install -s /bin
mount -t devtmpfs dev /dev && mount -t sysfs sysfs /sys && modprobe -a crc32c_generic ext4 nd_btt nd_pmem libnvdimm nfit
until [ -b /dev/pmem0 ]; do sleep 1; done
";
/// Makes the boot loader start Linux once. Its default is Xen.
const LINUX_NEXT: &str = "grub-reboot 'Debian GNU/Linux'";
/// What the doctor says of a Xen without the patches.
const STOCK: &str = "the hypervisor has no pmem support";
/// What the guest has said.
const SAID: &str = "/run/web.out";

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let mut host = Host::new(run)?;
    let mut commands = 0;
    for block in documents::blocks(&documents::read(documents::GUIDE)?.text) {
        if block.info == documents::UNIT {
            continue;
        }
        let place = block.place();
        if block.is_after_power_failure() {
            host.lose_power()?;
        }
        match place {
            Some(Place::Linux) => host.arrive(Kind::Bare)?,
            Some(Place::Dom0 | Place::Guest) => host.arrive(Kind::Xen)?,
            _ => bail!(
                "the guide has a block {:?}: it must say where it is run, on an installed system",
                block.info
            ),
        }
        for command in block.commands() {
            run.step(&command.line);
            match place {
                Some(Place::Guest) => host.in_guest(&command.line)?,
                _ => host.vm()?.script(&format!("cd {FOLDER}\n{}", command.line)).map(drop)?,
            }
            commands += 1;
        }
    }
    ensure!(commands > 30, "the guide has {commands} commands only");
    host.is_debians_again()?;
    host.power_off()
}

/// The operator's host.
struct Host<'a> {
    run: &'a Run<'a>,
    nvdimm: PathBuf,
    disk: PathBuf,
    /// Whether it has been started before: the first start is that of the Debian installer's end.
    started: bool,
    machine: Option<(Kind, Vm)>,
    /// Its guest's terminal, once the guest's shell is there.
    terminal: Option<String>,
    /// How many commands the guest has had.
    asked: u32,
}

impl<'a> Host<'a> {
    /// Returns a Debian system with a blank NVDIMM, a guest, and the packages of the patched Xen, downloaded.
    fn new(run: &'a Run<'a>) -> Result<Self> {
        run.step("a Debian host with a guest");
        let (nvdimm, disk) = (run.folder.join("nvdimm"), run.folder.join("disk"));
        image::blank(&nvdimm, NVDIMM_SIZE)?;
        let system = run.manifest.system.as_ref().context("no system was made")?;
        disk::copy(&system.image, &disk)?;
        ensure!(!run.manifest.xen_packages.is_empty(), "no packages of Xen were made");
        for package in &run.manifest.xen_packages {
            let name = package.file_name().unwrap_or_default().to_string_lossy();
            disk::put(&disk, package, &format!("{FOLDER}/{name}"))?;
        }
        disk::make_folder(&disk, "/srv/web")?;
        disk::put(&disk, &run.manifest.vmlinuz, "/srv/web/vmlinuz")?;
        disk::put(&disk, &run.manifest.initramfs, "/srv/web/initrd")?;
        let host = Self {
            run,
            nvdimm,
            disk,
            started: false,
            machine: None,
            terminal: None,
            asked: 0,
        };
        let words = machine::boot_loader_defaults(&host.config(Kind::Xen));
        for (name, content, to) in [
            ("web.cfg", GUEST, "/etc/xen/web.cfg"),
            ("grub.cfg", words.as_str(), "/etc/default/grub.d/machine.cfg"),
        ] {
            let file = run.folder.join(name);
            fs::write(&file, content)?;
            disk::put(&host.disk, &file, to)?;
        }
        Ok(host)
    }

    fn config(&self, kind: Kind) -> Config {
        let config = Config::new(kind, vec![Nvdimm::unlabelled(&self.nvdimm)]);
        Config {
            root: Root::System(Initramfs::InitramfsTools),
            disk: Some(self.disk.clone()),
            by_boot_loader: self.started,
            xen: vec!["pmem=hotplug".to_owned()],
            ..config
        }
        .with_guests()
    }

    fn vm(&mut self) -> Result<&mut Vm> {
        let machine = self.machine.as_mut();
        machine.map(|(_, vm)| vm).context("the host is off")
    }

    /// Starts Linux or Xen, unless it runs.
    fn arrive(&mut self, kind: Kind) -> Result<()> {
        match self.machine.take() {
            Some((before, vm)) if before == kind => {
                self.machine = Some((kind, vm));
                return Ok(());
            }
            Some((_, mut vm)) => {
                if kind == Kind::Bare {
                    vm.script(LINUX_NEXT)?;
                }
                self.run.power_off(vm)?;
            }
            None => {}
        }
        self.terminal = None;
        self.run.step("boot the installed system");
        let mut vm = self.run.boot_as(self.config(kind))?;
        self.started = true;
        installed::up(self.run, &mut vm)?;
        vm.wait_for("/dev/pmem0")?;
        self.machine = Some((kind, vm));
        Ok(())
    }

    fn lose_power(&mut self) -> Result<()> {
        let (_, vm) = self.machine.take().context("the host is off")?;
        self.run.step("the host loses power");
        vm.cut_power();
        Ok(())
    }

    fn power_off(self) -> Result<()> {
        let (_, vm) = self.machine.context("the host is off")?;
        self.run.power_off(vm)
    }

    /// Checks that what the guide has installed and removed left nothing, and that Debian's Xen starts.
    fn is_debians_again(&mut self) -> Result<()> {
        self.run.step("Debian's Xen and its xl are back");
        self.arrive(Kind::Xen)?;
        let release = format!("xen-utils-{}", self.run.manifest.xen_version);
        let vm = self.vm()?;
        let changed = vm.script(&format!("dpkg --verify {release}"))?;
        ensure!(
            changed.trim().is_empty(),
            "{release} is not as Debian made it:\n{changed}"
        );
        let diversions = vm.run("dpkg-divert --list *-pmem")?;
        ensure!(diversions.trim().is_empty(), "there still are\n{diversions}");
        let doctor = vm.exec(&["xen-pmem-report", "doctor"], "")?;
        ensure!(doctor.stdout.contains(STOCK), "doctor says\n{}", doctor.stdout);
        vm.run("xl list")?;
        let left = vm.script("ls /boot/*pmem* /usr/lib/modules-load.d/*pmem* 2>/dev/null || true")?;
        ensure!(left.trim().is_empty(), "there still are\n{left}");
        Ok(())
    }

    /// Types a command at the guest's console. It must succeed.
    fn in_guest(&mut self, command: &str) -> Result<()> {
        if self.terminal.is_none() {
            self.find_guest()?;
            self.type_in_guest(GUEST_BOOT)?;
        }
        self.type_in_guest(command)
    }

    fn type_in_guest(&mut self, command: &str) -> Result<()> {
        self.asked += 1;
        let terminal = self.terminal.clone().context("the guest has no terminal")?;
        // The line that is typed is on the console, too, and does not begin like this.
        let mark = format!("=== {} ", self.asked);
        let before = self.said()?.len();
        let vm = self.vm()?;
        vm.write("/run/web.in", &format!("{command}\necho \"{mark}$?\"\n"))?;
        vm.script(&format!("cat /run/web.in >{terminal}"))?;
        let mut said = String::new();
        let ended = poll::until(&format!("the guest has run {command}"), GUEST_LIMIT, || {
            said = self.said()?.get(before..).unwrap_or_default().to_owned();
            let end = said.lines().find_map(|line| line.trim().strip_prefix(&mark));
            Ok(end.map(str::to_owned))
        });
        let code = ended.with_context(|| format!("the guest says\n{said}"))?;
        ensure!(code == "0", "{command} ends with {code} in the guest:\n{said}");
        Ok(())
    }

    /// Waits for the shell of the guest that has been created.
    fn find_guest(&mut self) -> Result<()> {
        let vm = self.vm()?;
        let terminal = vm.script("xenstore-read /local/domain/$(xl domid web)/console/tty")?;
        let terminal = terminal.trim().to_owned();
        vm.spawn(&["sh", "-c", &format!("exec cat {terminal} >{SAID}")])?;
        self.terminal = Some(terminal);
        poll::until("the guest gives its shell", GUEST_LIMIT, || {
            Ok(self.said()?.contains("# ").then_some(()))
        })
    }

    /// Returns all that the guest has said.
    fn said(&mut self) -> Result<String> {
        self.vm()?.script(&format!("cat {SAID} 2>/dev/null || true"))
    }
}
