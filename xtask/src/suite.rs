//! The Debian suites that guests are made of.

use clap::ValueEnum;

/// A Debian release: its Xen, its kernel and its user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Debian 13: Xen 4.20, Linux 6.12
    Trixie,
    /// Debian 12: Xen 4.17, Linux 6.1
    Bookworm,
}

impl Suite {
    /// Its code name, as in a mirror's `dists` folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
        }
    }

    /// Its Xen version, part of package and path names: the user space must be of the hypervisor's own version.
    pub(crate) fn xen_version(self) -> &'static str {
        match self {
            Self::Trixie => "4.20",
            Self::Bookworm => "4.17",
        }
    }

    /// What a guest needs; the rest follows from dependencies.
    pub(crate) fn packages(self) -> Vec<String> {
        let xen = self.xen_version();
        let mut packages = vec![format!("xen-hypervisor-{xen}-amd64"), format!("xen-utils-{xen}")];
        packages.extend(
            [
                "linux-image-amd64",
                "xenstore-utils",
                "busybox-static",
                "ndctl",
                "gdisk",
                "e2fsprogs",
                "fdisk",
                "parted",
                // parted asks it for the machine's maker, and crashes without an answer.
                "dmidecode",
                "util-linux",
                "strace",
            ]
            .map(str::to_owned),
        );
        packages
    }
}
