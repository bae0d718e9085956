//! A PVH guest has partitions by one line in its configuration, with the toolstack of the series.

use super::linux_guest::{self, CONSOLE, GUEST_LIMIT, Host};
use super::{Run, xen_guest};
use crate::image::MIB;
use crate::machine::Kind;
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let mut host = Host::boot(run)?;
    // The series' xl takes the place of Debian's.
    let xl = format!("/usr/lib/xen-{}/bin/xl", run.manifest.xen_version);
    host.vm.run(&format!("mount --bind /tools/xl-pmem {xl}"))?;
    xen_guest::start_xenconsoled(run, &mut host.vm)?;
    host.vm.run("xen-pmem-report apply --all")?;
    let uuid = host.vm.json(0, "xen-pmem-report status --json")?["reservations"][0]["uuid"]
        .as_str()
        .context("no reservation")?
        .to_owned();
    let both = format!("pmem = ['uuid={uuid},partition=1', 'device={}']", host.dax);

    let node = host
        .vm
        .run(&format!("xenstore-read /tool/xen-pmem/{uuid}/persistence-domain"))?;
    ensure!(node.trim() == "cpu-cache", "XenStore says {node}");

    run.step("Dom0 makes file systems, one behind an info block");
    linux_guest::make_initrd(&mut host.vm)?;
    linux_guest::mount_with_greeting(&mut host.vm, &host.plain)?;
    host.configure("guest", "pvh", &both)?;
    host.is_refused("guest", "it's in use")?;
    host.vm.run("umount /mnt")?;
    linux_guest::prepare_for_dax(&mut host.vm, &host.dax)?;
    host.is_refused("guest", "it's in use")?;
    host.vm.run("losetup -d /dev/loop0")?;

    host.what_cannot_be_had(run, &uuid)?;
    host.a_claim_outlives_xl(run, &both)?;
    host.a_guest_that_is_told_not_to_write(run, &uuid)?;
    host.two_guests(run, &uuid)?;
    host.a_guest_that_reboots(run, &both)?;
    host.what_is_refused_meanwhile(run, &both)?;
    host.power_cut(run)
}

impl Host {
    /// Writes the configuration of a guest that stays.
    fn configure(&mut self, name: &str, kind: &str, pmem: &str) -> Result<()> {
        self.configure_as(name, "stay", kind, pmem)
    }

    /// Writes the configuration of a guest whose first process gets this word.
    fn configure_as(&mut self, name: &str, word: &str, kind: &str, pmem: &str) -> Result<()> {
        let config = linux_guest::configuration(name, word, kind, pmem);
        self.vm.write(&format!("/tmp/{name}.cfg"), &config)?;
        Ok(())
    }

    /// Checks that a guest is not created, that the message has these words, and that nothing is left of it.
    fn is_refused(&mut self, name: &str, why: &str) -> Result<()> {
        let claims = self.claims()?;
        let output = self.vm.exec(&["xl", "create", "-p", &format!("/tmp/{name}.cfg")], "")?;
        let said = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.code != Some(0) && said.contains(why), "{output:?}");
        ensure!(self.claims()? == claims, "a refused guest leaves a claim");
        ensure!(!self.exists(name)?, "a refused guest is there");
        Ok(())
    }

    fn exists(&mut self, name: &str) -> Result<bool> {
        Ok(self.vm.exec(&["xl", "domid", name], "")?.code == Some(0))
    }

    /// Returns the claims that there are, as our own tool sees them.
    fn claims(&mut self) -> Result<usize> {
        let list = self.vm.json(0, "xen-pmem-report guest list --json")?;
        Ok(list["claims"].as_array().context("no claims")?.len())
    }

    fn what_cannot_be_had(&mut self, run: &Run<'_>, uuid: &str) -> Result<()> {
        run.step("what is refused, and why");
        for (kind, pmem, why) in [
            ("hvm", format!("'uuid={uuid},partition=1'"), "PVH guests only"),
            ("pv", format!("'uuid={uuid},partition=1'"), "PVH guests only"),
            ("pvh", format!("'uuid={uuid},partition=3'"), "no usable partition 3"),
            (
                "pvh",
                "'uuid=00000000-0000-4000-8000-000000000001,partition=1'".to_owned(),
                "No persistent memory with UUID",
            ),
            ("pvh", "'device=/dev/pmem7p1'".to_owned(), "isn't a partition"),
            ("pvh", format!("'uuid={uuid}'"), "needs either"),
            ("pvh", format!("'uuid={uuid},partition=0'"), "isn't valid"),
            ("pvh", format!("'uuid={uuid},partition=1,size=3'"), "isn't valid"),
            (
                "pvh",
                format!("'uuid={uuid},partition=1', 'device={}'", self.plain),
                "twice",
            ),
            (
                "pvh",
                format!("'uuid={uuid},partition=1,gfn=0x1000'"),
                "above the guest's RAM",
            ),
        ] {
            self.configure("other", kind, &format!("pmem = [{pmem}]"))?;
            self.is_refused("other", why)?;
        }
        Ok(())
    }

    fn a_claim_outlives_xl(&mut self, run: &Run<'_>, both: &str) -> Result<()> {
        run.step("a claim outlives xl, and goes with the guest");
        self.configure("other", "pvh", both)?;
        self.vm.run("xl create -p /tmp/other.cfg")?;
        ensure!(self.claims()? == 2, "the guest has {} claims", self.claims()?);
        self.vm.script(
            "for process in /proc/[0-9]*; do
                case $(readlink $process/exe) in */bin/xl) kill -9 ${process#/proc/};; esac
            done",
        )?;
        ensure!(self.claims()? == 2, "claims go with xl");
        let output = self.vm.exec(&["mount", "-t", "ext4", &self.plain, "/mnt"], "")?;
        ensure!(output.code != Some(0), "Dom0 mounts what a guest has");
        self.vm.run("xl destroy other")?;
        ensure!(self.claims()? == 0, "claims outlive the guest");
        let plain = &self.plain;
        self.vm.script(&format!(
            "mount -t ext4 {plain} /mnt && touch /mnt/writable && umount /mnt
            blockdev --setro {plain}"
        ))?;
        self.is_refused("other", "is read-only")?;
        let plain = &self.plain;
        self.vm.run(&format!("blockdev --setrw {plain}"))?;
        Ok(())
    }

    fn a_guest_that_is_told_not_to_write(&mut self, run: &Run<'_>, uuid: &str) -> Result<()> {
        run.step("a guest with readonly=1 reads, and does not write");
        let pmem = format!("pmem = ['uuid={uuid},partition=1,readonly=1']");
        self.configure_as("reader", "alone", "pvh", &pmem)?;
        self.vm.run("xl create /tmp/reader.cfg")?;
        poll::until("the guest has ended", GUEST_LIMIT, || {
            Ok((!self.exists("reader")?).then_some(()))
        })?;
        let console = self.vm.run("cat /var/log/xen/guest-reader.log")?;
        ensure!(
            console.contains("GUEST greeting: written by Dom0")
                && console.contains("GUEST is done")
                && !console.contains("GUEST wrote"),
            "the guest said\n{console}"
        );
        let plain = &self.plain;
        self.vm.script(&format!(
            "mount -t ext4 -o ro {plain} /mnt && ! test -e /mnt/from-guest && umount /mnt"
        ))?;
        Ok(())
    }

    fn two_guests(&mut self, run: &Run<'_>, uuid: &str) -> Result<()> {
        run.step("two guests have one partition each at the same time");
        for (name, partition) in [("one", 1), ("two", 2)] {
            let pmem = format!("pmem = ['uuid={uuid},partition={partition}']");
            self.configure_as(name, "alone", "pvh", &pmem)?;
            self.vm.run(&format!("xl create -p /tmp/{name}.cfg"))?;
        }
        ensure!(self.claims()? == 2, "two guests have {} claims", self.claims()?);
        let status = self.vm.json(0, "xen-pmem-report status --json")?;
        let guests = serde_json::json!([{"partition": 1, "domain": "one"}, {"partition": 2, "domain": "two"}]);
        ensure!(status["reservations"][0]["guests"] == guests, "status says {status}");
        for name in ["one", "two"] {
            self.vm.run(&format!("xl unpause {name}"))?;
        }
        self.vm.run("xl pause one")?;
        self.vm.run("xl unpause one")?;
        poll::until("both guests have ended", GUEST_LIMIT, || {
            Ok((!self.exists("one")? && !self.exists("two")?).then_some(()))
        })?;
        for (name, words) in [
            ("one", &["greeting: written by Dom0", "wrote"][..]),
            ("two", &["has DAX", "wrote with DAX"]),
        ] {
            let console = self.vm.run(&format!("cat /var/log/xen/guest-{name}.log"))?;
            for word in words {
                ensure!(
                    console.contains(&format!("GUEST {word}")),
                    "{name} did not say {word}:\n{console}"
                );
            }
        }
        ensure!(self.claims()? == 0, "claims outlive the guests");
        // The next guest must be one that has not written yet.
        let plain = &self.plain;
        self.vm.script(&format!(
            "mount -t ext4 {plain} /mnt && rm /mnt/from-guest && umount /mnt"
        ))?;
        Ok(())
    }

    fn a_guest_that_reboots(&mut self, run: &Run<'_>, both: &str) -> Result<()> {
        run.step("a guest finds its partitions, writes, reboots, and finds them again");
        self.configure("guest", "pvh", both)?;
        self.vm.run("xl create /tmp/guest.cfg")?;
        poll::until("the guest has rebooted and written", GUEST_LIMIT, || {
            let claims = self.claims()?;
            ensure!(claims == 2, "there are {claims} claims while the guest reboots");
            let console = self.vm.run(CONSOLE)?;
            Ok(console.contains("GUEST stays").then_some(()))
        })?;
        linux_guest::has_said(
            &mut self.vm,
            &[
                "persistence: cpu_cache",
                "greeting: written by Dom0",
                "wrote",
                "has DAX",
                "wrote with DAX",
                "has rebooted",
            ],
        )?;
        Ok(())
    }

    fn what_is_refused_meanwhile(&mut self, run: &Run<'_>, both: &str) -> Result<()> {
        run.step("what the guest has can be seen");
        let status = self.vm.json(0, "xen-pmem-report status --json")?;
        let guests = serde_json::json!([
            {"partition": 1, "domain": "guest"},
            {"partition": 2, "domain": "guest"},
        ]);
        ensure!(status["reservations"][0]["guests"] == guests, "status says {status}");
        let verify = format!("xen-pmem-provision verify {}", self.disk);
        let text = self.vm.run(&verify)?;
        ensure!(text.contains("partition 2 is claimed for domain guest"), "{text}");
        let verify = self.vm.json(0, &format!("{verify} --json"))?;
        ensure!(verify["partitions"][0]["guest"] == "guest", "verify says {verify}");
        let doctor = self.vm.exec(&["xen-pmem-report", "doctor"], "")?.stdout;
        ensure!(doctor.contains("`pmem=` in a guest's configuration"), "{doctor}");
        let list = self.vm.run("xl pmem-list guest")?;
        ensure!(list.lines().count() == 3, "pmem-list says\n{list}");
        let list = self.vm.json(0, "xl list -l guest")?;
        let ranges = &list[0]["config"]["b_info"]["pmem"];
        let start = ranges[0]["start"].as_u64();
        let node = self.vm.run(&format!(
            "xenstore-read /tool/xen-pmem/{}/data/1/base",
            ranges[0]["uuid"].as_str().unwrap_or_default()
        ))?;
        let base: u64 = node.trim().parse()?;
        ensure!(start == Some(base / 4096), "list -l says {ranges}");

        run.step("what is refused while the guest has them");
        self.configure("other", "pvh", both)?;
        self.is_refused("other", "has partition 1")?;
        for held in [self.plain.clone(), self.dax.clone()] {
            linux_guest::is_kept_from_dom0(&mut self.vm, &held)?;
        }
        let disk = self.disk.clone();
        let refused = self.vm.run_for(3, &format!("xen-pmem-provision remove {disk}"))?;
        ensure!(refused.stderr.contains("is claimed for domain guest"), "{refused:?}");
        for command in [
            "xl save guest /tmp/saved",
            "xl migrate guest localhost",
            "xl remus guest localhost",
        ] {
            let output = self.vm.exec(&command.split(' ').collect::<Vec<_>>(), "")?;
            ensure!(
                output.code != Some(0) && output.stderr.contains("persistent memory"),
                "{command}: {output:?}"
            );
        }
        let saved = self.vm.exec(&["ls", "/tmp/saved"], "")?;
        ensure!(saved.code != Some(0), "a save that is refused leaves a file");
        Ok(())
    }

    fn power_cut(self, run: &Run<'_>) -> Result<()> {
        run.step("the host loses power while the guest runs: bare Linux finds what was synced");
        let Self { vm, nvdimm, .. } = self;
        vm.cut_power();
        let mut vm = run.boot_with_pmem(Kind::Bare, &nvdimm)?;
        vm.wait_for("/dev/pmem0p2")?;
        vm.run("modprobe --all loop")?;
        for (offset, partition, file, expected) in [
            (0, 1, "from-guest", "written by the guest again"),
            (2 * MIB, 2, "from-guest", "written with DAX"),
            (2 * MIB, 2, "synced", "durable"),
        ] {
            let found = read(&mut vm, offset, partition, file)?;
            ensure!(found.trim() == expected, "Linux reads {found} in {file}");
        }
        run.power_off(vm)
    }
}

/// Reads a file of a file system that begins at this offset of a partition.
fn read(vm: &mut Vm, offset: u64, partition: u32, file: &str) -> Result<String> {
    vm.script(&format!(
        "losetup -o {offset} /dev/loop0 /dev/pmem0p{partition}
        mount -t ext4 /dev/loop0 /mnt
        cat /mnt/{file}
        umount /mnt
        losetup -d /dev/loop0"
    ))
}
