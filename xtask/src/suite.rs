//! The Debian suites that guests are made of.

use clap::ValueEnum;
use std::str::FromStr;

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

/// The suites that one run is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suites(pub(crate) Vec<Suite>);

impl FromStr for Suites {
    type Err = String;

    /// Returns the name of one, or `all`.
    fn from_str(name: &str) -> Result<Self, String> {
        let all = Suite::value_variants();
        if name == "all" {
            return Ok(Self(all.to_vec()));
        }
        match Suite::from_str(name, false) {
            Ok(suite) => Ok(Self(vec![suite])),
            Err(_) => {
                let names: Vec<&str> = all.iter().map(|suite| suite.name()).collect();
                Err(format!("expected {} or all", names.join(", ")))
            }
        }
    }
}

impl Suite {
    /// Returns its code name, as in a mirror's `dists` folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
            Self::Bullseye => "bullseye",
            Self::Forky => "forky",
        }
    }

    /// Returns its Xen version, part of package and path names: the user space must be of the hypervisor's own version.
    pub(crate) fn xen_version(self) -> &'static str {
        match self {
            Self::Trixie | Self::Forky => "4.20",
            Self::Bookworm => "4.17",
            Self::Bullseye => "4.14",
        }
    }

    /// Returns whether it is still in the making. A mirror may then have lists that have expired.
    pub(crate) fn in_the_making(self) -> bool {
        self == Self::Forky
    }

    /// Returns what a guest needs; the rest follows from dependencies.
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
        if self.needs_dd() {
            packages.push("coreutils".to_owned());
        }
        if self.has_cxl() {
            packages.push("cxl".to_owned());
        }
        packages
    }

    /// Returns whether its Linux makes regions of CXL memory, and the suite has the program for that: from Debian 13 on.
    pub(crate) fn has_cxl(self) -> bool {
        matches!(self, Self::Trixie | Self::Forky)
    }

    /// Returns whether busybox's `dd` cannot write past the page cache, so that guests need another: up to Debian 11.
    pub(crate) fn needs_dd(self) -> bool {
        self == Self::Bullseye
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_named_one_by_one_or_all_at_once() {
        for suite in Suite::value_variants() {
            assert_eq!(suite.name().parse(), Ok(Suites(vec![*suite])));
        }
        assert_eq!("all".parse(), Ok(Suites(Suite::value_variants().to_vec())));
        assert!(Suites::from_str("sid").unwrap_err().contains("trixie"));
    }
}
