//! What manual pages say that command lines do not know of themselves.

/// The hand-written sections of a command's page.
pub(crate) struct Page {
    /// The command as it is typed.
    pub(crate) command: &'static str,
    /// The task, and the line that does it.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    /// Files that it uses, and what for.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// Other pages, as `name(section)`; a subcommand's begins with its tool's without being said.
    pub(crate) see_also: &'static [&'static str],
}

const SYSFS: (&str, &str) = (
    "/sys/bus/nd/devices",
    "libnvdimm's regions and namespaces: where each device lies in physical address space.",
);
const BACKUP: (&str, &str) = (
    "/var/backups/xen-pmem/TARGET.SECONDS.xen-pmem-backup",
    "What --force has overwritten, for restore; that of an image is beside it.",
);
const LOCK: (&str, &str) = ("/run/xen-pmem-report.lock", "Held by a run that changes reports.");
const PRIVCMD: (&str, &str) = ("/dev/xen/privcmd", "The way to the hypervisor.");
const DEVICE_MAPPER: (&str, &str) = (
    "/dev/mapper/control",
    "The kernel's device-mapper, which holds claimed partitions (the module dm_mod).",
);
const DEV_MEM: (&str, &str) = (
    "/dev/mem",
    "Physical memory: how namespaces are read that no driver is bound to.",
);

/// A section of a command's page that others do not have.
pub(crate) struct Section {
    /// The command as it is typed.
    pub(crate) command: &'static str,
    /// The section's title.
    pub(crate) title: &'static str,
    /// Its subject, and its text.
    pub(crate) entries: &'static [(&'static str, &'static str)],
}

const COLOURS: &[(&str, &str)] = &[(
    "NO_COLOR",
    "If it is set to anything but nothing, terminals get no colours either. Files and pipes never do.",
)];

/// Sections between the exit status and the files.
pub(crate) const MORE: &[Section] = &[
    Section {
        command: "xen-pmem-provision show",
        title: "ENVIRONMENT",
        entries: COLOURS,
    },
    Section {
        command: "xen-pmem-report doctor",
        title: "ENVIRONMENT",
        entries: COLOURS,
    },
    Section {
        command: "xen-pmem-report",
        title: "KERNEL COMMAND LINE",
        entries: &[
            (
                "xen-pmem.early=off",
                "No report from the initramfs. On a Xen with pmem support it is then too late for this boot.",
            ),
            (
                "xen-pmem.early-limit=SECONDS",
                "How long it may take until boot goes on without a report (60; 0: as long as it takes).",
            ),
        ],
    },
    Section {
        command: "xen-pmem-report",
        title: "SERVICES",
        entries: &[
            (
                "xen-pmem-report@pmem0.service",
                "Reports one device; udev starts it when the device appears. Stopping it withdraws the report from XenStore.",
            ),
            (
                "xen-pmem-hold.service",
                "Keeps drivers from binding to NVDIMMs that are plugged in until these are reported; where the hypervisor takes reports.",
            ),
            (
                "xen-pmem-bind@region0.service",
                "Reports such an NVDIMM, then binds its drivers; udev starts it.",
            ),
        ],
    },
    Section {
        command: "xen-pmem-report",
        title: "JOURNAL",
        entries: &[(
            "XEN_PMEM_DEVICE, XEN_PMEM_RESERVATION, XEN_PMEM_SINK, XEN_PMEM_OUTCOME, XEN_PMEM_USED",
            "The fields of what services log: `journalctl XEN_PMEM_DEVICE=/dev/pmem0` has all that was said of a device.",
        )],
    },
];

/// Returns the section of a command, as it is typed.
pub(crate) fn of(command: &str) -> Option<&'static Page> {
    ALL.iter().find(|page| page.command == command)
}

/// All of them.
pub(crate) const ALL: &[Page] = &[
    Page {
        command: "xen-pmem-provision",
        examples: &[
            (
                "Prepare a device, having looked at the plan first:",
                "xen-pmem-provision init /dev/pmem0 --dry-run",
            ),
            ("See what is on it:", "xen-pmem-provision show /dev/pmem0"),
            ("Check it, reading only:", "xen-pmem-provision verify /dev/pmem0"),
        ],
        files: &[SYSFS, BACKUP],
        see_also: &[
            "xen-pmem-provision-init(8)",
            "xen-pmem-discover(8)",
            "xen-pmem-report(8)",
            "xen-pmem-format(5)",
            "ndctl(1)",
            "sgdisk(8)",
        ],
    },
    Page {
        command: "xen-pmem-provision init",
        examples: &[
            (
                "Show what would be written, and how much Xen needs:",
                "xen-pmem-provision init /dev/pmem0 --dry-run",
            ),
            (
                "Prepare a blank device: one partition over what is left:",
                "xen-pmem-provision init /dev/pmem0",
            ),
            (
                "Two partitions, the second over the rest:",
                "xen-pmem-provision init /dev/pmem0 --partition 64G:logs --partition rest:data",
            ),
            (
                "Make an image for a device that will lie at 4 GiB:",
                "xen-pmem-provision init nvdimm.img --size 512M --base 0x100000000",
            ),
            (
                "Give up what is on a device and prepare it anew (what is overwritten is saved first):",
                "xen-pmem-provision init /dev/pmem0 --force",
            ),
        ],
        files: &[SYSFS, BACKUP],
        see_also: &[
            "xen-pmem-provision-restore(8)",
            "xen-pmem-format(5)",
            "ndctl-create-namespace(1)",
        ],
    },
    Page {
        command: "xen-pmem-provision fsdax",
        examples: &[
            (
                "Make a partition come up in fsdax mode in its guest:",
                "xen-pmem-provision fsdax /dev/pmem0p1",
            ),
            (
                "The second partition of an image, looking only:",
                "xen-pmem-provision fsdax nvdimm.img --partition 2 --dry-run",
            ),
        ],
        files: &[SYSFS],
        see_also: &[
            "xen-pmem-provision-wipe(8)",
            "xen-pmem-report-guest(8)",
            "ndctl-create-namespace(1)",
        ],
    },
    Page {
        command: "xen-pmem-provision wipe",
        examples: &[
            (
                "Zero a partition before it goes to another guest:",
                "xen-pmem-provision wipe /dev/pmem0p1 --yes",
            ),
            (
                "Go on where an interrupted run ended:",
                "xen-pmem-provision wipe /dev/pmem0p1 --yes --from 0x180000000",
            ),
        ],
        files: &[SYSFS],
        see_also: &[
            "xen-pmem-provision-fsdax(8)",
            "xen-pmem-report-guest(8)",
            "blkdiscard(8)",
        ],
    },
    Page {
        command: "xen-pmem-provision show",
        examples: &[
            ("Show a device:", "xen-pmem-provision show /dev/pmem0"),
            (
                "Where the parts of an image would lie:",
                "xen-pmem-provision show nvdimm.img --base 0x100000000",
            ),
            (
                "A drawing for a document:",
                "xen-pmem-provision show /dev/pmem0 --svg pmem0.svg",
            ),
            (
                "The same for a program:",
                "xen-pmem-provision show /dev/pmem0 --json | jq .superblock",
            ),
        ],
        files: &[SYSFS],
        see_also: &["xen-pmem-provision-verify(8)", "xen-pmem-format(5)"],
    },
    Page {
        command: "xen-pmem-provision verify",
        examples: &[
            (
                "Say what is wrong with a device, and what to do about it:",
                "xen-pmem-provision verify /dev/pmem0",
            ),
            (
                "Ask in a script, by the exit code:",
                "xen-pmem-provision verify --quiet /dev/pmem0",
            ),
        ],
        files: &[],
        see_also: &["xen-pmem-provision-repair(8)", "xen-pmem-format(5)"],
    },
    Page {
        command: "xen-pmem-provision remove",
        examples: &[
            (
                "Show what would be written:",
                "xen-pmem-provision remove /dev/pmem0 --dry-run",
            ),
            (
                "Take the super blocks away; partitions stay as they are:",
                "xen-pmem-provision remove /dev/pmem0",
            ),
        ],
        files: &[],
        see_also: &["xen-pmem-provision-init(8)", "xen-pmem-report-withdraw(8)"],
    },
    Page {
        command: "xen-pmem-provision repair",
        examples: &[
            (
                "Show what would be written:",
                "xen-pmem-provision repair /dev/pmem0 --dry-run",
            ),
            (
                "Heal a device from its good half:",
                "xen-pmem-provision repair /dev/pmem0",
            ),
        ],
        files: &[],
        see_also: &["xen-pmem-provision-verify(8)", "xen-pmem-provision-restore(8)"],
    },
    Page {
        command: "xen-pmem-provision resize",
        examples: &[(
            "Make the reserved area smaller, or larger up to the first partition:",
            "xen-pmem-provision resize --reserve 8M /dev/pmem0",
        )],
        files: &[SYSFS],
        see_also: &["xen-pmem-provision-init(8)", "xen-pmem-provision-show(8)"],
    },
    Page {
        command: "xen-pmem-provision backup",
        examples: &[(
            "Save tables and super blocks:",
            "xen-pmem-provision backup /dev/pmem0 pmem0.backup",
        )],
        files: &[],
        see_also: &["xen-pmem-provision-restore(8)"],
    },
    Page {
        command: "xen-pmem-provision restore",
        examples: &[
            (
                "Show what would be written:",
                "xen-pmem-provision restore /dev/pmem0 pmem0.backup --dry-run",
            ),
            (
                "Put saved tables and super blocks back:",
                "xen-pmem-provision restore /dev/pmem0 pmem0.backup",
            ),
        ],
        files: &[BACKUP],
        see_also: &["xen-pmem-provision-backup(8)", "xen-pmem-provision-repair(8)"],
    },
    Page {
        command: "xen-pmem-discover",
        examples: &[
            (
                "List persistent memory, and what of it is prepared:",
                "xen-pmem-discover scan",
            ),
            ("Follow devices as they come and go:", "xen-pmem-discover monitor"),
            ("See who writes where only Xen may:", "xen-pmem-discover guard"),
        ],
        files: &[SYSFS],
        see_also: &[
            "xen-pmem-discover-scan(8)",
            "xen-pmem-provision(8)",
            "xen-pmem-report(8)",
            "ndctl-list(1)",
        ],
    },
    Page {
        command: "xen-pmem-discover scan",
        examples: &[
            ("All devices of this host:", "xen-pmem-discover scan"),
            ("One device, for a program:", "xen-pmem-discover scan /dev/pmem0 --json"),
            (
                "Before nd_pmem is loaded, through /dev/mem:",
                "xen-pmem-discover scan --early",
            ),
            (
                "An image, as if it lay at 4 GiB:",
                "xen-pmem-discover scan --image nvdimm.img --base 0x100000000",
            ),
        ],
        files: &[
            SYSFS,
            DEV_MEM,
            (
                "/sys/firmware/acpi/tables/NFIT",
                "The firmware's table, where libnvdimm is not loaded.",
            ),
        ],
        see_also: &["xen-pmem-discover-monitor(8)", "xen-pmem-report-apply(8)"],
    },
    Page {
        command: "xen-pmem-discover guard",
        examples: &[
            (
                "A line for each write to an area reserved for Xen:",
                "xen-pmem-discover guard",
            ),
            (
                "The same for one device, and end whoever does it:",
                "xen-pmem-discover guard --kill /dev/pmem0",
            ),
        ],
        files: &[(
            "/sys/kernel/btf/vmlinux",
            "The kernel's types: eBPF programs need them.",
        )],
        see_also: &["xen-pmem-discover-monitor(8)"],
    },
    Page {
        command: "xen-pmem-discover monitor",
        examples: &[
            (
                "All that is there, then a line for each event:",
                "xen-pmem-discover monitor",
            ),
            (
                "The same as one JSON document a line, from the kernel's functions instead of its messages:",
                "xen-pmem-discover monitor --json --source bpf",
            ),
        ],
        files: &[
            SYSFS,
            (
                "/sys/kernel/btf/vmlinux",
                "The kernel's types: eBPF programs need them.",
            ),
        ],
        see_also: &["xen-pmem-discover-scan(8)", "xen-pmem-report-watch(8)"],
    },
    Page {
        command: "xen-pmem-report",
        examples: &[
            (
                "Check step by step whether this host can report, and say what to do:",
                "xen-pmem-report doctor",
            ),
            ("Report all prepared devices:", "xen-pmem-report apply --all"),
            ("See what is reported:", "xen-pmem-report status"),
        ],
        files: &[
            SYSFS,
            PRIVCMD,
            LOCK,
            ("/usr/lib/xen-pmem/xen-pmem-early", "The report from the initramfs."),
        ],
        see_also: &[
            "xen-pmem-report-apply(8)",
            "xen-pmem-report-status(8)",
            "xen-pmem-report-doctor(8)",
            "xen-pmem-discover(8)",
            "xen-pmem-provision(8)",
            "xl(1)",
        ],
    },
    Page {
        command: "xen-pmem-report apply",
        examples: &[
            (
                "Report all prepared devices; a second time changes nothing:",
                "xen-pmem-report apply --all",
            ),
            (
                "See first what would be reported:",
                "xen-pmem-report apply --all --dry-run",
            ),
            (
                "In the initramfs, before nd_pmem is loaded:",
                "xen-pmem-report apply --early --all",
            ),
            (
                "For an NVDIMM that was plugged in, with its drivers held back:",
                "xen-pmem-report apply --early --bind --all",
            ),
            (
                "A raw device that was found late and is not in use:",
                "xen-pmem-report apply --rebind /dev/pmem0",
            ),
        ],
        files: &[SYSFS, PRIVCMD, DEV_MEM, LOCK],
        see_also: &[
            "xen-pmem-report-hold(8)",
            "xen-pmem-report-status(8)",
            "xen-pmem-report-withdraw(8)",
        ],
    },
    Page {
        command: "xen-pmem-report doctor",
        examples: &[
            ("Check this host step by step:", "xen-pmem-report doctor"),
            ("The same for a program:", "xen-pmem-report doctor --json"),
        ],
        files: &[
            SYSFS,
            PRIVCMD,
            (
                "/sys/kernel/btf/vmlinux",
                "The kernel's types: xen-pmem-discover guard needs them.",
            ),
        ],
        see_also: &["xen-pmem-report-status(8)", "xen-pmem-provision-verify(8)"],
    },
    Page {
        command: "xen-pmem-report guest",
        examples: &[
            (
                "Claim a partition for a guest that is to be created:",
                "xen-pmem-report guest claim /dev/pmem0p1 --domain web --initrd initrd.img --ramdisk web.initrd",
            ),
            ("See what is claimed:", "xen-pmem-report guest list"),
        ],
        files: &[DEVICE_MAPPER],
        see_also: &["xen-pmem-report-guest-claim(8)", "xl.cfg(5)", "dmsetup(8)"],
    },
    Page {
        command: "xen-pmem-report guest claim",
        examples: &[
            (
                "Claim a partition, and keep the lines for the guest's configuration:",
                "xen-pmem-report guest claim /dev/pmem0p1 --domain web --initrd initrd.img --ramdisk web.initrd",
            ),
            (
                "Two partitions for a guest that has at most 8 GiB of memory:",
                "xen-pmem-report guest claim /dev/pmem0p1 /dev/pmem0p2 --domain web --memory 8G --initrd initrd.img --ramdisk web.initrd",
            ),
        ],
        files: &[SYSFS, DEVICE_MAPPER, LOCK],
        see_also: &[
            "xen-pmem-report-guest-release(8)",
            "xen-pmem-provision-fsdax(8)",
            "xen-pmem-provision-wipe(8)",
            "xl.cfg(5)",
        ],
    },
    Page {
        command: "xen-pmem-report guest release",
        examples: &[
            ("Take a partition back:", "xen-pmem-report guest release /dev/pmem0p1"),
            (
                "Wait until a domain has been there and is gone, then take all back that it had:",
                "xen-pmem-report guest release --domain web --wait",
            ),
            (
                "Take back what was claimed for domains that are not there:",
                "xen-pmem-report guest release --gone",
            ),
        ],
        files: &[DEVICE_MAPPER, LOCK],
        see_also: &["xen-pmem-report-guest-claim(8)"],
    },
    Page {
        command: "xen-pmem-report guest list",
        examples: &[("See what is claimed, and for whom:", "xen-pmem-report guest list")],
        files: &[DEVICE_MAPPER],
        see_also: &["xen-pmem-report-guest-claim(8)", "dmsetup(8)"],
    },
    Page {
        command: "xen-pmem-report hold",
        examples: &[
            (
                "Before NVDIMMs are plugged in (the service xen-pmem-hold does it):",
                "xen-pmem-report hold",
            ),
            (
                "Have drivers bind by themselves again:",
                "xen-pmem-report hold --release",
            ),
        ],
        files: &[(
            "/sys/bus/nd/drivers_autoprobe",
            "Whether drivers of libnvdimm bind by themselves.",
        )],
        see_also: &["xen-pmem-report-apply(8)"],
    },
    Page {
        command: "xen-pmem-report status",
        examples: &[
            (
                "A table of all reservations, and where devices, XenStore and hypervisor disagree:",
                "xen-pmem-report status",
            ),
            ("The same for a program:", "xen-pmem-report status --json"),
        ],
        files: &[SYSFS, PRIVCMD],
        see_also: &["xen-pmem-report-doctor(8)", "xenstore-ls(1)"],
    },
    Page {
        command: "xen-pmem-report watch",
        examples: &[
            (
                "On a host without udev: report devices as they appear, until stopped:",
                "xen-pmem-report watch",
            ),
            (
                "The same, told by the kernel's functions instead of its messages:",
                "xen-pmem-report watch --source bpf",
            ),
        ],
        files: &[SYSFS, PRIVCMD, LOCK],
        see_also: &["xen-pmem-report-apply(8)", "xen-pmem-discover-monitor(8)"],
    },
    Page {
        command: "xen-pmem-report withdraw",
        examples: &[
            (
                "Take back what is published of a device:",
                "xen-pmem-report withdraw /dev/pmem0",
            ),
            ("All that is published:", "xen-pmem-report withdraw --all"),
        ],
        files: &[LOCK],
        see_also: &["xen-pmem-report-status(8)"],
    },
];
