//! The Debian suites that guests are made of.

use clap::ValueEnum;

/// A Debian release: its Xen, its kernel and its user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Debian 13: Xen 4.20, Linux 6.12
    Trixie,
    /// Debian 12: Xen 4.17, Linux 6.1
    Bookworm,
    /// Debian 11: Xen 4.14, Linux 5.10
    Bullseye,
    /// Debian 14 in the making: Xen 4.20, Linux 7.2
    Forky,
}

impl Suite {
    /// Its code name, as in a mirror's `dists` folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
            Self::Bullseye => "bullseye",
            Self::Forky => "forky",
        }
    }

    /// Its Xen version, part of package and path names: the user space must be of the hypervisor's own version.
    pub(crate) fn xen_version(self) -> &'static str {
        match self {
            Self::Trixie | Self::Forky => "4.20",
            Self::Bookworm => "4.17",
            Self::Bullseye => "4.14",
        }
    }

    /// Whether it is still in the making. A mirror may then have lists that have expired.
    pub(crate) fn in_the_making(self) -> bool {
        self == Self::Forky
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
