//! What a machine is made of, and QEMU's command line for it.

use crate::manifest::{Hypervisor, Manifest};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Emulated (nested virtualisation may be there and not work), with one processor: with more, emulation is several times slower.
/// Without smap and smep: with them Xen bounces a page fault while it touches a page of Dom0, and Dom0 dies early.
const PROCESSOR: &str = "-machine q35,nvdimm=on,memory-backend=memory,sata=off,smbus=off,i8042=off -accel tcg,thread=multi -cpu max,-smap,-smep -smp 1";
/// The processor is AMD's; this makes it one of Intel's, whose machine checks Xen can recover from.
const INTEL: &str = "max,vendor=GenuineIntel,family=6,model=85,stepping=4";
/// A clock that counts instructions: one is a nanosecond.
const COUNTED: &str = " -icount shift=0";
/// Nothing that is not asked for; the end of the guest is the end of QEMU.
const FRAME: &str = "-nodefaults -no-user-config -vga none -nic none -nographic -no-reboot";
/// What a machine's processor must not have if it runs PVH guests, and the words for Xen then. With the extended states
/// (XSAVE) the emulator mixes up those of Dom0 and guests; it reports RDTSCP as RDTSC, whose length Xen then gets wrong; and
/// `spec-ctrl=no` would let Xen leave the floating-point registers of one domain to another, which takes eager switching.
const GUESTS: (&str, &str) = (
    ",-xsave,-xsaveopt,-xsavec,-xgetbv1,-avx,-avx2,-fma,-f16c,-pku,-vaes,-vpclmulqdq,-rdtscp",
    "spec-ctrl=eager-fpu",
);
/// Linux's command line without the console. An oops is a panic, and a panic ends the machine.
const LINUX: &str = "loglevel=5 mitigations=off cryptomgr.notests oops=panic panic=-1";
/// More words for speed. The emulator translates code again for each address: programs and libraries should have the same addresses in
/// each process.
const FAST: &str = "norandmaps nokaslr init_on_alloc=0 lsm=capability audit=0";
/// More of it for an installed system.
const SYSTEM: &str = "rw systemd.show_status=false";
/// The root file system of one. Its boot loader finds it by itself.
const SYSTEM_ROOT: &str = "root=/dev/vda";
/// Xen's command line.
const XEN: &str = "console=com1 com1=115200,8n1 dom0_mem=1G bootscrub=0 spec-ctrl=no noreboot";

/// What starts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Linux alone.
    Bare,
    /// Xen, and Linux as its PV Dom0.
    Xen,
}

/// What a machine runs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// An initramfs with the tools under test and little else; the agent is the first process.
    Memory,
    /// An installed Debian system on a disk; what is written to it is forgotten at power-off.
    System(Initramfs),
}

/// What made an installed system's initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initramfs {
    /// initramfs-tools, Debian's default.
    InitramfsTools,
    /// dracut.
    Dracut,
}

/// Where a machine's memory is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory<'a> {
    /// Nowhere else.
    Own,
    /// In a file, with all that the machine writes.
    In(&'a Path),
    /// As a file has it, without changing that.
    From(&'a Path),
}

/// Returns the identities of the emulator and then of the files that a machine boots from.
///
/// # Errors
///
/// If one cannot be looked at.
pub(crate) fn software(manifest: &Manifest, config: &Config) -> std::io::Result<Vec<(u64, i64, i64)>> {
    let software = Software::of(config.root, manifest)?;
    let mut files = vec![emulator(manifest, config)?, software.initramfs];
    match config.kind {
        Kind::Bare => files.push(software.vmlinuz),
        Kind::Xen => files.extend([hypervisor(manifest, config)?, software.vmlinux]),
    }
    files.into_iter().map(identity).collect()
}

/// Returns what of a file says that it is the same as before.
fn identity(file: &Path) -> std::io::Result<(u64, i64, i64)> {
    let metadata = fs::metadata(file)?;
    Ok((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Returns what sets a machine apart from others of the same software, before anything has looked at what is on its NVDIMMs.
///
/// # Errors
///
/// If an NVDIMM's file cannot be looked at.
pub(crate) fn fingerprint(config: &Config) -> std::io::Result<String> {
    let nvdimms = config
        .nvdimms
        .iter()
        .map(|nvdimm| Ok((fs::metadata(&nvdimm.file)?.len(), nvdimm.label_size, nvdimm.address)));
    let nvdimms = nvdimms.collect::<std::io::Result<Vec<_>>>()?;
    Ok(format!(
        "{} MiB of {} GiB, {nvdimms:?}, Intel {}, guests {}, caches survive {}, Linux {:?}, Xen {:?}",
        config.memory_mib,
        config.most_gib,
        config.intel,
        config.guests,
        config.caches_survive,
        config.linux,
        config.xen
    ))
}

fn hypervisor<'a>(manifest: &'a Manifest, config: &Config) -> std::io::Result<&'a Path> {
    let hypervisor = manifest.hypervisor(config.hypervisor);
    hypervisor.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// What a machine starts, and its root file system.
struct Software<'a> {
    vmlinux: &'a Path,
    vmlinuz: &'a Path,
    initramfs: &'a Path,
    disk: Option<&'a Path>,
}

impl<'a> Software<'a> {
    fn of(root: Root, manifest: &'a Manifest) -> std::io::Result<Self> {
        let made_by = match root {
            Root::Memory => {
                return Ok(Self {
                    vmlinux: &manifest.vmlinux,
                    vmlinuz: &manifest.vmlinuz,
                    initramfs: &manifest.initramfs,
                    disk: None,
                });
            }
            Root::System(made_by) => made_by,
        };
        let system = manifest.system.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Self {
            vmlinux: &system.vmlinux,
            vmlinuz: &system.vmlinuz,
            initramfs: match made_by {
                Initramfs::InitramfsTools => &system.initramfs,
                Initramfs::Dracut => &system.dracut,
            },
            disk: Some(&system.image),
        })
    }
}

/// The IOMMU of a machine. Without one, its devices reach all memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iommu {
    /// AMD-Vi.
    Amd,
    /// Intel VT-d.
    Intel,
}

impl Iommu {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Amd, Self::Intel];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
        }
    }

    /// QEMU's device.
    const fn device(self) -> &'static str {
        match self {
            Self::Amd => "amd-iommu,intremap=on",
            // Xen makes page tables for 48 bits.
            Self::Intel => "intel-iommu,intremap=on,aw-bits=48",
        }
    }
}

/// QEMU's device that copies memory on request. Its mask allows every address.
const COPIER: &str = "edu,dma_mask=0xffffffffffffffff";

/// A machine to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// What starts first.
    pub kind: Kind,
    /// Which Xen, if it is one.
    pub hypervisor: Hypervisor,
    /// What its root file system is.
    pub root: Root,
    /// The disk of the machine's own installed system, which keeps what is written to it.
    pub disk: Option<PathBuf>,
    /// Whether a boot loader starts it, with what that disk's menu says.
    pub by_boot_loader: bool,
    /// How much memory it has. The addresses of its NVDIMMs follow from it.
    pub memory_mib: u64,
    /// How much memory it can have at most, in GiB, NVDIMMs and the gaps between them included.
    pub most_gib: u64,
    /// The NVDIMMs that it starts with.
    pub nvdimms: Vec<Nvdimm>,
    /// The CXL memory that it starts with.
    pub cxl: Option<Cxl>,
    /// More ACPI tables of its firmware: a file for each, header included. QEMU makes their checksums right.
    pub acpi_tables: Vec<PathBuf>,
    /// Whether its processor is one of Intel's.
    pub intel: bool,
    /// Its IOMMU.
    pub iommu: Option<Iommu>,
    /// What its firmware says of power failures: that the processors' caches survive them, or nothing.
    pub caches_survive: bool,
    /// Whether it has a device that copies memory on request ([`crate::copier`]).
    pub copier: bool,
    /// Whether it runs PVH guests.
    pub guests: bool,
    /// More words for Linux's command line.
    pub linux: Vec<String>,
    /// More words for Xen's command line.
    pub xen: Vec<String>,
    /// Whether its console is this terminal.
    pub interactive: bool,
    /// Whether its clock counts instructions, one a nanosecond, so that what else this machine does is left out of times.
    pub counted: bool,
}

impl Config {
    /// Returns a machine with 2 GiB of memory and these NVDIMMs.
    pub fn new(kind: Kind, nvdimms: Vec<Nvdimm>) -> Self {
        Self {
            kind,
            hypervisor: Hypervisor::Stock,
            root: Root::Memory,
            disk: None,
            by_boot_loader: false,
            memory_mib: 2048,
            most_gib: 128,
            nvdimms,
            cxl: None,
            acpi_tables: Vec::new(),
            intel: false,
            iommu: None,
            caches_survive: false,
            copier: false,
            guests: false,
            linux: Vec::new(),
            xen: Vec::new(),
            interactive: false,
            counted: false,
        }
    }
}

impl Config {
    /// Returns the same machine, and it runs PVH guests.
    #[must_use]
    pub fn with_guests(mut self) -> Self {
        let (_, xen) = GUESTS;
        self.guests = true;
        self.xen.push(xen.to_owned());
        self
    }
}

/// An NVDIMM to be.
#[derive(Clone, Debug)]
pub struct Nvdimm {
    /// Its backing file, as large as it. Each side sees at once what the other writes.
    pub file: PathBuf,
    /// The bytes of its label area, taken from the end of the file; without one the namespace is the whole NVDIMM.
    pub label_size: Option<u64>,
    /// Where it is in the physical address space; QEMU's choice if it is not given.
    pub address: Option<u64>,
}

impl Nvdimm {
    /// Returns an NVDIMM without a label area.
    pub fn unlabelled(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            label_size: None,
            address: None,
        }
    }
}

/// CXL memory to be: a host bridge with a window of physical addresses and a device at each of its root ports.
#[derive(Clone, Debug)]
pub struct Cxl {
    /// The devices.
    pub devices: Vec<CxlDevice>,
    /// How large the window is, in GiB.
    pub window_gib: u64,
}

/// A Type 3 device to be.
#[derive(Clone, Debug)]
pub struct CxlDevice {
    /// Its serial number.
    pub serial: u64,
    /// Its backing file, as large as it.
    pub file: PathBuf,
    /// The file of its label area; `None` for memory that is volatile.
    pub labels: Option<PathBuf>,
}

/// Returns the emulator for such a machine.
///
/// # Errors
///
/// If it has CXL memory and no emulator that knows it was asked for.
pub(crate) fn emulator<'a>(manifest: &'a Manifest, config: &Config) -> std::io::Result<&'a Path> {
    match config.cxl {
        None => Ok(&manifest.qemu),
        Some(_) => {
            let emulator = manifest.qemu_cxl.as_deref();
            emulator.ok_or_else(|| std::io::Error::other("no emulator with CXL memory was prepared"))
        }
    }
}

/// Returns the device for a drive. Its bus is named, because a CXL host bridge is a bus, too, and takes no disks.
fn on_the_root_bus(drive: &str) -> String {
    format!("virtio-blk-pci,drive={drive},bus=pcie.0")
}

/// QEMU's command line for a machine that appends its console's output to `console` and has the sockets `agent` and `qmp` in `sockets`.
///
/// # Errors
///
/// If an NVDIMM's file cannot be looked at.
pub(crate) fn arguments(
    manifest: &Manifest,
    config: &Config,
    memory: Memory<'_>,
    console: &Path,
    sockets: &Path,
) -> std::io::Result<Vec<OsString>> {
    let processor = match config.counted {
        false => PROCESSOR.to_owned(),
        true => PROCESSOR.replace("thread=multi", "thread=single") + COUNTED,
    };
    let (without, _) = GUESTS;
    let processor = match config.guests {
        false => processor,
        true => processor.replace(",-smep", &format!(",-smep{without}")),
    };
    let processor = match config.intel {
        false => processor,
        true => processor.replace("-cpu max", &format!("-cpu {INTEL}")),
    };
    let processor = match config.caches_survive {
        false => processor,
        true => processor.replace("nvdimm=on", "nvdimm=on,nvdimm-persistence=cpu"),
    };
    let processor = match (&config.cxl, config.nvdimms.is_empty()) {
        (None, _) => processor,
        // Firmware has an NVDIMM root device with `nvdimm=on`, whether there are any or not.
        (Some(_), true) => processor.replace("nvdimm=on", "cxl=on"),
        (Some(_), false) => processor.replace("nvdimm=on", "nvdimm=on,cxl=on"),
    };
    // Linux makes no CXL regions where the processor says that there is a hypervisor: it cannot flush the caches then.
    let processor = match config.cxl {
        None => processor,
        Some(_) => processor.replace(",-smep", ",-smep,-hypervisor"),
    };
    let mut arguments: Vec<OsString> = [processor.as_str(), FRAME]
        .iter()
        .flat_map(|words| words.split(' '))
        .map(OsString::from)
        .collect();
    let mut add = |option: &str, value: &str| arguments.extend([option.into(), value.into()]);
    add(
        "-m",
        &format!("{}M,slots=10,maxmem={}G", config.memory_mib, config.most_gib),
    );
    let memory = match memory {
        Memory::Own => "memory-backend-ram".to_owned(),
        Memory::In(file) => format!("memory-backend-file,share=on,mem-path={}", file.display()),
        Memory::From(file) => format!("memory-backend-file,share=off,mem-path={}", file.display()),
    };
    add("-object", &format!("{memory},id=memory,size={}M", config.memory_mib));
    let log = console.display();
    add(
        "-chardev",
        &match config.interactive {
            true => format!("stdio,id=console,signal=off,logfile={log},logappend=on"),
            false => format!("file,id=console,path={log},append=on"),
        },
    );
    let sockets = sockets.display();
    // QEMU makes them in this order: once the agent's socket exists, the monitor's exists, too.
    add(
        "-chardev",
        &format!("socket,id=qmp,path={sockets}/qmp,server=on,wait=off"),
    );
    add("-mon", "chardev=qmp,mode=control");
    add(
        "-chardev",
        &format!("socket,id=agent,path={sockets}/agent,server=on,wait=off"),
    );
    add("-serial", "chardev:console");
    add("-serial", "chardev:agent");
    // The IOMMU comes before the devices that it is for.
    if let Some(iommu) = config.iommu {
        add("-device", iommu.device());
    }
    if config.copier {
        add("-device", COPIER);
    }
    for (index, nvdimm) in (1..).zip(&config.nvdimms) {
        let size = fs::metadata(&nvdimm.file)?.len();
        let file = nvdimm.file.display();
        let label = nvdimm
            .label_size
            .map(|size| format!(",label-size={size}"))
            .unwrap_or_default();
        add(
            "-object",
            &format!("memory-backend-file,id=mem{index},share=on,mem-path={file},size={size},align=2M"),
        );
        let address = nvdimm
            .address
            .map(|address| format!(",addr={address:#x}"))
            .unwrap_or_default();
        add(
            "-device",
            &format!("nvdimm,id=nv{index},memdev=mem{index}{label}{address}"),
        );
    }
    if let Some(cxl) = &config.cxl {
        add("-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl");
        for (port, device) in cxl.devices.iter().enumerate() {
            let (file, size) = (device.file.display(), fs::metadata(&device.file)?.len());
            add(
                "-object",
                &format!("memory-backend-file,id=cxlmem{port},share=on,mem-path={file},size={size}"),
            );
            let memory = match &device.labels {
                None => format!("volatile-memdev=cxlmem{port}"),
                Some(labels) => {
                    let (file, size) = (labels.display(), fs::metadata(labels)?.len());
                    add(
                        "-object",
                        &format!("memory-backend-file,id=cxllsa{port},share=on,mem-path={file},size={size}"),
                    );
                    format!("persistent-memdev=cxlmem{port},lsa=cxllsa{port}")
                }
            };
            let slot = port + 2;
            add(
                "-device",
                &format!("cxl-rp,port={port},bus=cxl,id=rp{port},chassis=0,slot={slot}"),
            );
            add(
                "-device",
                &format!("cxl-type3,bus=rp{port},{memory},id=cxl{port},sn={}", device.serial),
            );
        }
        let window = cxl.window_gib;
        add("-M", &format!("cxl-fmw.0.targets.0=cxl,cxl-fmw.0.size={window}G"));
    }
    for table in &config.acpi_tables {
        add("-acpitable", &format!("file={}", table.display()));
    }
    let software = Software::of(config.root, manifest)?;
    let mut linux = vec![LINUX, FAST];
    if config.root == Root::Memory {
        let tools = manifest.tools.display();
        add(
            "-drive",
            &format!("file={tools},format=raw,if=none,id=tools,readonly=on"),
        );
        add("-device", &on_the_root_bus("tools"));
    }
    if let Some(disk) = software.disk {
        let (disk, snapshot) = match &config.disk {
            Some(own) => (own.as_path(), "off"),
            None => (disk, "on"),
        };
        add(
            "-drive",
            &format!(
                "file={},format=raw,if=none,id=system,snapshot={snapshot}",
                disk.display()
            ),
        );
        add("-device", &on_the_root_bus("system"));
        linux.extend([SYSTEM_ROOT, SYSTEM]);
    }
    if let Some(system) = manifest.system.as_ref().filter(|_| config.by_boot_loader) {
        add("-kernel", &system.grub.display().to_string());
        return Ok(arguments);
    }
    let initramfs = software.initramfs.display();
    match config.kind {
        Kind::Bare => {
            linux.insert(0, "console=ttyS0");
            add("-kernel", &software.vmlinuz.display().to_string());
            add("-append", &command_line(&linux, &config.linux));
            add("-initrd", &initramfs.to_string());
        }
        Kind::Xen => {
            let xen = hypervisor(manifest, config)?;
            linux.insert(0, "console=hvc0");
            add("-kernel", &xen.display().to_string());
            add("-append", &command_line(&[XEN], &config.xen));
            // A list of multiboot modules: a comma ends one, two are a comma.
            let linux = command_line(&linux, &config.linux).replace(',', ",,");
            add(
                "-initrd",
                &format!("{} {linux},{initramfs}", software.vmlinux.display()),
            );
        }
    }
    Ok(arguments)
}

/// Returns a file of `/etc/default/grub.d` for an installed system: its kernels get the words that machines get here.
pub fn boot_loader_defaults(config: &Config) -> String {
    let linux = command_line(&[LINUX, FAST, SYSTEM], &config.linux);
    format!(
        "GRUB_TIMEOUT=0\nGRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX=\"console=ttyS0 {linux}\"\n\
        GRUB_CMDLINE_LINUX_XEN_REPLACE=\"console=hvc0 {linux}\"\nGRUB_CMDLINE_XEN=\"{}\"\n",
        command_line(&[XEN], &config.xen)
    )
}

fn command_line(always: &[&str], more: &[String]) -> String {
    let words = always.iter().copied().chain(more.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_on_the_command_line_ends_no_module() {
        let path = PathBuf::from;
        let manifest = Manifest {
            qemu: path("/qemu"),
            qemu_cxl: None,
            suite: "s".to_owned(),
            xen_version: "4".to_owned(),
            linux_version: "6".to_owned(),
            xen: path("/xen"),
            xen_patched: None,
            xen_debug: None,
            xen_packages: Vec::new(),
            vmlinux: path("/vmlinux"),
            vmlinuz: path("/vmlinuz"),
            initramfs: path("/initramfs"),
            tools: path("/tools"),
            snapshots: None,
            system: None,
            provision: path("/provision"),
            work: path("/work"),
            keep: false,
        };
        let config = Config {
            linux: vec!["debug=a,b".to_owned()],
            ..Config::new(Kind::Xen, Vec::new())
        };
        let arguments = arguments(
            &manifest,
            &config,
            Memory::Own,
            Path::new("/log"),
            Path::new("/sockets"),
        )
        .unwrap();
        let initrd = arguments.last().unwrap().to_str().unwrap();
        assert!(initrd.starts_with("/vmlinux console=hvc0 "), "{initrd}");
        assert!(initrd.ends_with(" debug=a,,b,/initramfs"), "{initrd}");
    }
}
