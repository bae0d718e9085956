//! Guests get partitions of persistent memory as memory: what the hypervisor allows and refuses, and that all frames come back.
//!
//! Instead of a kernel, the guests have a few instructions (`xen/tests/guests`), so that they start at once. The first page of their
//! persistent memory is a mailbox: the host reads and writes it in the device's backing file.

mod host;

use super::Run;
use crate::frames::FRAME;
use crate::image;
use crate::poll;
use anyhow::{Result, ensure};
use host::{
    CRASH, DATA, Data, FREE_GFN, GFN, Host, LARGE, LIMIT, MARK, MARK_AT, Order, POWER_OFF, RAM_GFN, SIZE, WORDS,
    pattern, word,
};

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let mut host = Host::boot(run)?;
    ensure!(
        host.vm.run("pmemguest abi")?.trim() == "1",
        "the hypervisor does not advertise the operation"
    );

    run.step("all frames are idle, before and after there was a guest");
    host.ensure_idle()?;
    // What Xen keeps once it has had a guest is not to be counted.
    host.create("one")?;
    host.destroy("one")?;
    let heap = host.heap()?;

    host.what_is_refused()?;
    host.ensure_back(Some(heap))?;
    host.what_a_guest_does()?;
    host.ensure_back(Some(heap))?;
    host.what_moves()?;
    host.ensure_back(Some(heap))?;
    host.how_guests_end()?;
    host.ensure_back(Some(heap))?;
    host.what_is_granted()?;
    host.ensure_back(None)?;
    host.what_dom0_maps()?;
    host.ensure_back(None)?;
    host.what_others_have()?;
    host.ensure_back(None)?;

    run.step("Xen has found nothing wrong");
    let log = host.vm.run("xl dmesg")?;
    let wrong = ["Assertion", "BUG at", "WARN at", "Leaking"];
    let line = log.lines().find(|line| wrong.iter().any(|word| line.contains(word)));
    ensure!(line.is_none(), "Xen says {line:?}");
    host.power_cut()
}

impl Host<'_, '_> {
    fn what_is_refused(&mut self) -> Result<()> {
        let (large, small) = (self.large, self.small);
        let (reserved, reserved_count) = self.reserved;
        self.run
            .step("a guest is given a partition, by large pages, write-back");
        let one = self.create("one")?;
        let heap = self.heap()?;
        self.done(&format!("add {one} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        ensure!(
            self.heap()? == heap,
            "giving frames by large pages takes memory of Xen's heap"
        );
        let data = self.data()?;
        ensure!(
            data == Data {
                idle: self.data - large.count,
                given: large.count,
                in_m2p: large.count,
                by_large: large.count,
                write_back: large.count,
                ..Data::default()
            },
            "{data:?}"
        );
        let said = self.done(&format!("get {one}"))?;
        ensure!(
            said.starts_with(&format!("0 frames dealt with, {0:#x} given, {0:#x} owned", large.count)),
            "{said}"
        );

        self.run.step("what is refused, and why");
        let two = self.create("two")?;
        let pv = self.create_pv("pv", 0, 0)?;
        let on_demand = self.create_as("on-demand", "pvh", "maxmem = 64")?;
        let add = |domain: u64, gfn: u64, mfn: u64, count: u64| format!("add {domain} {gfn:x} {mfn:x} {count:x}");
        for (command, error, reason) in [
            (add(one, FREE_GFN, reserved, 1), "ERANGE", "not data"),
            (
                add(one, FREE_GFN, reserved + reserved_count - 1, 1),
                "ERANGE",
                "not data",
            ),
            (add(one, FREE_GFN, reserved - 1, 2), "ERANGE", "not data"),
            (add(one, FREE_GFN, self.base, SIZE / FRAME), "ERANGE", "not data"),
            (
                add(one, FREE_GFN, self.base + SIZE / FRAME - 1, 2),
                "ERANGE",
                "not data",
            ),
            (add(one, FREE_GFN, 0x1_0000, 1), "ERANGE", "not data"),
            (add(one, FREE_GFN, small.mfn, 0), "EINVAL", "malformed"),
            (add(one, FREE_GFN, small.mfn, u64::MAX), "EINVAL", "malformed"),
            (add(one, u64::MAX - 1, small.mfn, 4), "EINVAL", "malformed"),
            (
                add(one, 1 << 40, small.mfn, 1),
                "ERANGE",
                "beyond the guest's addresses",
            ),
            (add(one, RAM_GFN, small.mfn, LARGE), "EEXIST", "something else"),
            (add(one, GFN, small.mfn, LARGE), "EEXIST", "something else"),
            (add(one, FREE_GFN, large.mfn, LARGE), "EBUSY", "given to a guest"),
            (add(one, FREE_GFN + 1, large.mfn + 1, 3), "EBUSY", "given to a guest"),
            (add(two, GFN, large.mfn, large.count), "EBUSY", "given to a guest"),
            (add(0, FREE_GFN, small.mfn, 1), "EOPNOTSUPP", "not an HVM or PVH guest"),
            (add(pv, FREE_GFN, small.mfn, 1), "EOPNOTSUPP", "not an HVM or PVH guest"),
            (
                add(on_demand, FREE_GFN, small.mfn, 1),
                "EOPNOTSUPP",
                "populate-on-demand",
            ),
            (format!("remove {one} {:x} 1", small.mfn), "ENOENT", "not the domain's"),
            (format!("remove {one} {reserved:x} 1"), "ERANGE", "not data"),
            (format!("remove {two} {:x} 1", large.mfn), "ENOENT", "not the domain's"),
        ] {
            self.refused(&command, error, Some(reason))?;
        }
        for (command, answer) in [
            (format!("decrease {one} {GFN:x}"), "0 of 1"),
            (format!("page-on-demand {one} {FREE_GFN:x}"), "0 of 1"),
            (format!("exchange {one} {GFN:x}"), "EOPNOTSUPP"),
            (format!("move {one} {RAM_GFN:x} {GFN:x}"), "EPERM"),
            (format!("foreign {one} {GFN:x}"), "EPERM"),
            (format!("log-dirty {one}"), "EOPNOTSUPP"),
            (format!("permit {two} {:x} 1", large.mfn), "EBUSY"),
            (format!("map-io {two} {FREE_GFN:x} {:x}", large.mfn), "EPERM"),
        ] {
            self.refused(&command, answer, None)?;
        }
        ensure!(self.data()? == data, "a refused operation changed something");

        self.run.step("what is migrated is not given any");
        self.done(&format!("log-dirty {two}"))?;
        self.refused(&add(two, GFN, small.mfn, 1), "EBUSY", Some("being migrated"))?;
        for name in ["one", "two", "pv", "on-demand"] {
            self.destroy(name)?;
        }
        Ok(())
    }

    fn what_a_guest_does(&mut self) -> Result<()> {
        let (large, small) = (self.large, self.small);
        self.run
            .step("two guests use two partitions of a device at once; Dom0 and the host see what they write");
        for (name, partition, seed) in [("one", large, 17), ("two", small, 99)] {
            let domain = self.create(name)?;
            // The first frames one by one.
            self.done(&format!("add {domain} {GFN:x} {:x} 20", partition.mfn))?;
            self.done(&format!(
                "add {domain} {:x} {:x} {:x}",
                GFN + 0x20,
                partition.mfn + 0x20,
                partition.count - 0x20
            ))?;
            self.vm.run(&format!("xl unpause {name}"))?;
            self.order(partition, Order::Fill, seed)?;
        }
        let data = self.data()?;
        ensure!(
            data.given == large.count + small.count && data.write_back == data.given && data.by_small == 2 * LARGE,
            "{data:?}"
        );
        for (partition, seed) in [(large, 17), (small, 99)] {
            self.ensure_filled(partition, seed)?;
        }

        self.run.step("save is refused, and the guest goes on");
        let output = self.vm.exec(&["xl", "save", "one", "/tmp/saved"], "")?;
        ensure!(output.code != Some(0), "xl save succeeds");
        self.ensure_runs(large)?;

        self.run.step("a guest that is paused does not write; both end");
        self.vm.run("xl pause one")?;
        let beat = self.beat(large)?;
        self.vm.run("xl list")?;
        ensure!(self.beat(large)? == beat, "the guest runs");
        self.vm.run("xl unpause one")?;
        self.ensure_runs(large)?;
        for (name, partition) in [("one", large), ("two", small)] {
            self.order(partition, Order::Stop, POWER_OFF)?;
            self.wait_for(name, 's')?;
            self.destroy(name)?;
        }

        self.run
            .step("the next guest gets the partition, and finds what was written");
        let domain = self.create("next")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        self.vm.run("xl unpause next")?;
        ensure!(self.order(large, Order::Check, 17)? == 0, "it finds something else");
        self.vm
            .run(&format!("dd if=/dev/pmem0p1 of=/tmp/read bs={DATA} skip=1 count=256"))?;
        let sum = self.vm.run("sha256sum /tmp/read")?;
        let path = self.run.folder.join("expected");
        std::fs::write(&path, pattern(17))?;
        let expected = std::process::Command::new("sha256sum").arg(&path).output()?;
        ensure!(
            sum.split_whitespace().next() == String::from_utf8(expected.stdout)?.split_whitespace().next(),
            "Dom0 reads something else"
        );
        self.destroy("next")
    }

    fn what_moves(&mut self) -> Result<()> {
        let large = self.large;
        self.run.step("a guest moves and unmaps pages: all of them come back");
        let domain = self.create("one")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        self.done(&format!("move {domain} {:x} {FREE_GFN:x}", GFN + 3))?;
        self.done(&format!("unmap {domain} {:x}", GFN + LARGE + 7))?;
        // RAM replaces the frame that is there.
        self.done(&format!("populate {domain} {:x}", GFN + 2 * LARGE + 9))?;
        let data = self.data()?;
        ensure!(data.given == large.count && data.in_m2p == large.count - 2, "{data:?}");
        let half = large.count / 2;
        let said = self.done(&format!("remove {domain} {:x} {half:x}", large.mfn))?;
        ensure!(said.contains(&format!("{half:#x} given")), "{said}");
        // What is back is not the guest's any more.
        self.refused(
            &format!("remove {domain} {:x} {half:x}", large.mfn),
            "ENOENT",
            Some("not the domain's"),
        )?;
        self.done(&format!("add {domain} {FREE_GFN:x} {:x} {half:x}", large.mfn))?;
        self.done(&format!("remove {domain} {:x} {:x}", large.mfn, large.count))?;
        self.ensure_idle()?;
        self.destroy("one")
    }

    fn how_guests_end(&mut self) -> Result<()> {
        let large = self.large;
        self.run.step("a guest is destroyed while it writes");
        let domain = self.create("busy")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        self.vm.run("xl unpause busy")?;
        self.ensure_runs(large)?;
        self.destroy("busy")?;
        self.ensure_back(None)?;
        self.run.step("a guest crashes");
        let domain = self.create("crash")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        self.vm.run("xl unpause crash")?;
        self.order(large, Order::Stop, CRASH)?;
        self.wait_for("crash", 'c')?;
        ensure!(self.data()?.given == large.count, "a crashed guest has lost its frames");
        self.destroy("crash")
    }

    fn what_is_granted(&mut self) -> Result<()> {
        let (large, reference) = (self.large, 0x30);
        self.run
            .step("a page that Dom0 has mapped by a grant comes back when it is unmapped");
        let domain = self.create("one")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        self.done(&format!("grant {domain} {reference:x} {:x} 0", GFN + LARGE + 5))?;
        let holder = self.hold(domain, reference)?;
        // One by the process's mapping, one by the kernel's.
        let data = self.data()?;
        ensure!(data.references == 2, "{data:?}");
        self.vm.run("xl destroy one")?;
        let data = self.data()?;
        ensure!(
            data.idle == self.data - 1 && data.given == 0 && data.taken_back == 1,
            "{data:?}"
        );
        let said = self.done(&format!("get {domain}"))?;
        ensure!(said.contains("0 given, 0x1 owned"), "{said}");
        let next = self.create("next")?;
        let add = format!("add {next} {GFN:x} {:x} {:x}", large.mfn, large.count);
        self.refused(&add, "EBUSY", Some("not back yet"))?;
        // What came before it was given, and is left to the caller.
        self.done(&format!("remove {next} {:x} {LARGE:x}", large.mfn))?;
        self.vm.run(&format!("kill {holder}"))?;
        self.ensure_back(None)?;
        self.refused(&format!("get {domain}"), "ESRCH", None)?;
        self.destroy("next")?;

        self.run
            .step("a page that a PV guest has mapped by a grant comes back when that guest dies");
        let domain = self.create("one")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        let pv = self.create_pv("pv", domain, reference)?;
        self.done(&format!("grant {domain} {reference:x} {:x} {pv}", GFN + 7))?;
        let mark = large.offset + 7 * FRAME + MARK_AT;
        image::write(&self.file, mark, &[0; 4])?;
        self.vm.run("xl unpause pv")?;
        let file = self.file.clone();
        poll::until("the PV guest's mark", LIMIT, || {
            Ok((word(&file, mark)? == MARK).then_some(()))
        })?;
        let data = self.data()?;
        ensure!(data.references == 1, "{data:?}");
        self.vm.run("xl destroy pv")?;
        self.until("no more references", |data| data.references == 0)?;
        self.destroy("one")
    }

    fn what_dom0_maps(&mut self) -> Result<()> {
        let large = self.large;
        self.run
            .step("Dom0's driver unmaps and maps what a guest has, and what it had");
        let unbind = "ndctl disable-namespace namespace0.0";
        let bind = "ndctl enable-namespace namespace0.0";
        let domain = self.create("one")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        let data = self.data()?;
        self.vm.run(unbind)?;
        ensure!(self.data()? == data, "unmapping counted");
        self.vm.run(bind)?;
        self.vm.wait_for("/dev/pmem0p2")?;
        ensure!(self.data()? == data, "mapping counted");
        self.destroy("one")?;
        self.ensure_back(None)?;
        self.vm.run(unbind)?;
        self.ensure_idle()?;
        let domain = self.create("one")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        self.vm.run(bind)?;
        self.vm.wait_for("/dev/pmem0p2")?;
        self.destroy("one")
    }

    fn what_others_have(&mut self) -> Result<()> {
        let small = self.small;
        self.run.step("what another domain has access to is not given");
        let other = self.create("other")?;
        self.done(&format!("permit {other} {:x} 1", small.mfn + 3))?;
        let domain = self.create("one")?;
        self.refused(
            &format!("add {domain} {GFN:x} {:x} {:x}", small.mfn, small.count),
            "EBUSY",
            Some("another domain has access"),
        )?;
        self.done(&format!("add {domain} {GFN:x} {:x} 3", small.mfn))?;
        self.destroy("other")?;
        self.destroy("one")
    }

    fn power_cut(mut self) -> Result<()> {
        let (large, seed) = (self.large, 5);
        self.run
            .step("the host loses power while a guest runs: what it has written is there");
        let domain = self.create("one")?;
        self.done(&format!("add {domain} {GFN:x} {:x} {:x}", large.mfn, large.count))?;
        self.vm.run("xl unpause one")?;
        self.order(large, Order::Fill, seed)?;
        self.ensure_runs(large)?;
        let (file, large) = (self.file, self.large);
        self.vm.cut_power();
        let there = image::read(&file, large.offset + DATA, WORDS * 4)?;
        ensure!(there == pattern(seed), "the file has something else");
        Ok(())
    }
}
