//! The speed of persistent memory in a guest, compared with the same partition as a disk, and the time to give it to a guest.

use super::Bench;
use crate::image::{self, MIB};
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::scenarios::xen_guest::BLOCK_SCRIPT;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Bytes of the NVDIMM: room for both partitions.
const SIZE: u64 = 2048 * MIB;
/// The partition that a guest reads and writes, and the one that the host gives and takes back.
const PARTITIONS: [&str; 2] = ["64M", "1G"];
/// How often it is read and written, and how many blocks each time.
const ROUNDS: usize = 5;
const COUNT: u64 = 2000;
/// How often the host gives frames and takes them back.
const TURNS: usize = 5;
/// Bytes of a frame, and frames of a large page.
const FRAME: u64 = 4096;
const LARGE: u64 = 512;
/// The number of frames given by small pages: their page tables must fit in a small guest's pool.
const SMALL: u64 = 64 * MIB / FRAME;
/// Where a guest gets them: above its memory, and at the same place within a GiB as in the machine, so that Xen can use large pages.
const GFN: u64 = 1 << 24;
const WITHIN_GIB: u64 = (1 << 18) - 1;
/// How long a guest may take, with a clock that counts instructions.
const LIMIT: Duration = Duration::from_secs(600);

/// The guest's first process: it reads and writes its memory, as often as its command line says.
const INIT: &str = "#!/usr/bin/busybox sh
busybox=/usr/bin/busybox
$busybox mount -t proc proc /proc; $busybox mount -t sysfs sysfs /sys; $busybox mount -t devtmpfs dev /dev
exec < /dev/hvc0 > /dev/hvc0 2>&1
$busybox modprobe -a crc32c_generic ext4 nd_btt nd_pmem libnvdimm nfit xen-blkfront
n=0
until [ -b /dev/pmem0 ] || [ -b /dev/xvda ] || [ $n = 60 ]; do n=$((n + 1)); $busybox sleep 1; done
if [ -b /dev/pmem0 ]; then
    $busybox mount -t ext4 -o dax /dev/pmem0 /mnt && $busybox grep -q dax=always /proc/mounts || echo FAILED
    $busybox dd if=/dev/zero of=/mnt/file bs=1M count=16 2> /dev/null; $busybox sync
    place=/mnt/file write=mapped read=mapped
else
    place=/dev/xvda write=durable read=direct
fi
n=0
while [ $n -le ROUNDS ]; do
    n=$((n + 1))
    echo RESULT writes $(/usr/bin/stopwatch writes --how $write --count COUNT $place)
    echo RESULT reads $(/usr/bin/stopwatch reads --how $read --count COUNT $place)
done
echo DONE
$busybox poweroff -f
";

/// A guest's configuration, without what is measured.
const DOMAIN: &str = "name = 'guest'
type = 'pvh'
memory = 256
vcpus = 1
kernel = '/tmp/vmlinuz'
ramdisk = '/tmp/initrd'
extra = 'console=hvc0 loglevel=4 mitigations=off cryptomgr.notests norandmaps nokaslr rdinit=/init'
on_crash = 'preserve'
";

pub(super) fn run(bench: &Bench<'_>) -> Result<Value> {
    let mut host = Host::boot(bench)?;
    let mapping = host.mapping(bench)?;
    let wipe = host.wipe(bench)?;
    bench.step("read and write by DAX in a guest");
    let partition = host.partition(1);
    host.vm.run(&format!("xen-pmem-provision fsdax {partition}"))?;
    host.vm.script(&format!(
        "losetup -o 2097152 /dev/loop0 {partition}
        /usr/sbin/mke2fs -q -t ext4 -b 4096 /dev/loop0
        losetup -d /dev/loop0"
    ))?;
    let mut accesses = host.in_guest("dax", &format!("pmem = ['device={partition}']"))?;
    bench.step("read and write the same partition as a PV disk");
    host.vm.run("modprobe xen-blkback")?;
    host.vm.script("mkdir -p /etc/xen/scripts")?;
    host.vm.write("/etc/xen/scripts/block", BLOCK_SCRIPT)?;
    host.vm.script("chmod 755 /etc/xen/scripts/block")?;
    accesses.extend(host.in_guest("disk", &format!("disk = ['phy:{partition},xvda,w']"))?);
    bench.step("read and write it in Dom0");
    accesses.extend(host.in_dom0(&partition)?);
    host.vm.power_off()?;
    Ok(json!({ "count": COUNT, "accesses": accesses, "mapping": mapping, "wipe": wipe }))
}

struct Host {
    vm: Vm,
    disk: String,
    uuid: String,
}

impl Host {
    fn boot(bench: &Bench<'_>) -> Result<Self> {
        bench.step("prepare");
        let (nvdimm, uuid) = bench.partitioned("nvdimm", SIZE, None, &PARTITIONS)?;
        let kernel = bench.folder.join("kernel");
        let bytes = fs::read(&bench.manifest.vmlinuz)?;
        let size = u64::try_from(bytes.len())?;
        image::blank(&kernel, size.next_multiple_of(32 * MIB))?;
        image::write(&kernel, 0, &bytes)?;
        bench.step("boot the patched Xen");
        let mut vm = bench.boot(
            Config {
                counted: true,
                ..Config::new(Kind::Xen, vec![nvdimm, Nvdimm::unlabelled(&kernel)])
            }
            .with_guests(),
        )?;
        let version = &bench.manifest.xen_version;
        vm.start_xenstored(version)?;
        vm.load_nvdimm_core()?;
        vm.run("xen-pmem-report apply --early --all")?;
        vm.load_nvdimm_drivers()?;
        vm.run("xen-pmem-report apply --all")?;
        let status = vm.json(0, "xen-pmem-report status --json")?;
        let disk = status["reservations"][0]["device"].as_str();
        let disk = disk.with_context(|| format!("status says {status}"))?.to_owned();
        for device in ["/dev/pmem0", "/dev/pmem1", &format!("{disk}p2")] {
            vm.wait_for(device)?;
        }
        let other = if disk == "/dev/pmem0" {
            "/dev/pmem1"
        } else {
            "/dev/pmem0"
        };
        vm.script(&format!("head -c {size} {other} > /tmp/vmlinuz"))?;
        vm.run("modprobe --all dm-mod loop")?;
        vm.script(&format!(
            "mount --bind /tools/xl-pmem /usr/lib/xen-{version}/bin/xl
            mkdir -p /dev/pts /run/xen /etc/xen /var/log/xen && : > /etc/xen/xl.conf
            mount -t devpts devpts /dev/pts
            /usr/lib/xen-{version}/bin/xenconsoled --pid-file /run/xen/xenconsoled.pid --log=guest --log-dir=/var/log/xen"
        ))?;
        let init = INIT
            .replace("ROUNDS", &ROUNDS.to_string())
            .replace("COUNT", &COUNT.to_string());
        vm.write("/tmp/init", &init)?;
        vm.script(
            "for folder in usr/bin usr/lib dev proc sys mnt; do mkdir -p /tmp/guest/$folder; done
            cp /usr/bin/busybox /tmp/guest/usr/bin/
            cp /tools/xen-pmem-stopwatch /tmp/guest/usr/bin/stopwatch
            cp /tmp/init /tmp/guest/init && chmod 755 /tmp/guest/init
            cp -r /usr/lib/modules /tmp/guest/usr/lib/
            cd /tmp/guest
            ln -s usr/bin bin; ln -s usr/bin sbin; ln -s usr/lib lib
            find . | cpio -o -H newc > /tmp/initrd
            rm -r /tmp/guest",
        )?;
        Ok(Self { vm, disk, uuid })
    }

    fn partition(&self, number: u32) -> String {
        format!("{}p{number}", self.disk)
    }

    /// Gives frames to a guest and takes them back, by large pages and by small ones.
    fn mapping(&mut self, bench: &Bench<'_>) -> Result<Vec<Value>> {
        let base = format!("/tool/xen-pmem/{}/data/2/base", self.uuid);
        let mfn = self.vm.run(&format!("xenstore-read {base}"))?.trim().parse::<u64>()? / FRAME;
        self.vm.write(
            "/tmp/small.cfg",
            "name = 'small'\ntype = 'pvh'\nmemory = 32\nvcpus = 1\nkernel = '/tools/pmemguest-pvh'\n",
        )?;
        self.vm.run("xl create -p /tmp/small.cfg")?;
        let domain = self.vm.run("xl domid small")?.trim().to_owned();
        let gfn = GFN | (mfn & WITHIN_GIB);
        let mut mapping = Vec::new();
        for (step, gfn, frames) in [(LARGE * FRAME, gfn, 1024 * MIB / FRAME), (FRAME, gfn + 1, SMALL)] {
            bench.step(&format!(
                "give and take back {} MiB in steps of {step} bytes",
                frames * FRAME / MIB
            ));
            // The last shows what starting the program takes.
            let lines = [
                format!("pmemguest add {domain} {gfn:x} {mfn:x} {frames:x}"),
                format!("pmemguest remove {domain} {mfn:x} {frames:x}"),
                format!("pmemguest get {domain}"),
            ];
            let arguments = ["xen-pmem-stopwatch", "commands", "--rounds", &TURNS.to_string()];
            let output = self.vm.exec(&arguments, &lines.join("\n"))?;
            ensure!(output.code == Some(0), "{output:?}");
            let times: [Vec<u64>; 3] = serde_json::from_str(&output.stdout)?;
            let [add, remove, start] = times;
            mapping.push(json!({
                "step": step, "bytes": frames * FRAME, "add": add, "remove": remove, "start": start,
            }));
        }
        self.vm.run("xl destroy small")?;
        Ok(mapping)
    }

    /// Zeros the larger partition, by our command and by one that people use.
    fn wipe(&mut self, bench: &Bench<'_>) -> Result<Vec<Value>> {
        bench.step("wipe a partition");
        let partition = self.partition(2);
        let commands = [
            format!("xen-pmem-provision wipe --yes {partition}"),
            format!("dd if=/dev/zero of={partition} bs=1M count=1024 oflag=direct"),
        ];
        let arguments = ["xen-pmem-stopwatch", "commands", "--rounds", &TURNS.to_string()];
        let output = self.vm.exec(&arguments, &commands.join("\n"))?;
        ensure!(output.code == Some(0), "{output:?}");
        let times: Vec<Vec<u64>> = serde_json::from_str(&output.stdout)?;
        let names = ["xen-pmem-provision wipe", "dd if=/dev/zero bs=1M oflag=direct"];
        let rows = names.iter().zip(times);
        Ok(rows
            .map(|(name, times)| json!({ "command": name, "nanoseconds": times }))
            .collect())
    }

    /// Makes a guest that gets the partition this way read and write it.
    fn in_guest(&mut self, path: &str, gets: &str) -> Result<Vec<Value>> {
        self.vm.write("/tmp/guest.cfg", &format!("{DOMAIN}{gets}\n"))?;
        self.vm.script(": > /var/log/xen/guest-guest.log")?;
        self.vm.run("xl create /tmp/guest.cfg")?;
        let console = "cat /var/log/xen/guest-guest.log";
        poll::until("the guest has measured", LIMIT, || {
            let said = self.vm.run(console)?;
            ensure!(!said.contains("FAILED"), "the guest says\n{said}");
            Ok(said.contains("DONE").then_some(()))
        })?;
        let said = self.vm.run(console)?;
        poll::until("the guest has ended", LIMIT, || {
            let list = self.vm.run("xl list")?;
            Ok((!list.contains("guest ")).then_some(()))
        })?;
        ["writes", "reads"]
            .iter()
            .map(|what| {
                let start = format!("RESULT {what} ");
                let times = said.lines().filter_map(|line| line.trim().strip_prefix(&start));
                let times: Vec<u64> = times.map(str::parse).collect::<Result<_, _>>()?;
                // The first round, with what is not translated and not mapped yet, is not counted.
                let times = times.get(1..).filter(|times| times.len() == ROUNDS);
                let times = times.with_context(|| format!("the guest says\n{said}"))?;
                Ok(json!({ "path": path, "what": what, "nanoseconds": times }))
            })
            .collect()
    }

    /// Reads and writes the partition as a block device of Dom0.
    fn in_dom0(&mut self, partition: &str) -> Result<Vec<Value>> {
        let mut accesses = Vec::new();
        for (what, how) in [("writes", "durable"), ("reads", "direct")] {
            let mut times = Vec::new();
            for round in 0..=ROUNDS {
                let said = self.vm.run(&format!(
                    "xen-pmem-stopwatch {what} --how {how} --count {COUNT} {partition}"
                ))?;
                if round > 0 {
                    times.push(said.trim().parse::<u64>()?);
                }
            }
            accesses.push(json!({ "path": "dom0", "what": what, "nanoseconds": times }));
        }
        Ok(accesses)
    }
}
