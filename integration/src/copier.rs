//! A device that copies memory on request. It shows what a device of Dom0 can reach through the IOMMU.
//!
//! QEMU's `edu` (`docs/specs/edu.rst` of QEMU) has a buffer, and copies between it and any address by DMA. A program in Dom0 writes its
//! registers through `/dev/mem`: no driver uses it.

use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};

/// Vendor and device, as sysfs has them.
const IDENTITY: (&str, &str) = ("0x1234", "0x11e8");
/// Registers, from the start of its memory: source, destination, count, command.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
/// Where its buffer is, as the registers name it.
const BUFFER: u64 = 0x4_0000;
/// Commands: go; and which way. It clears the first bit when it is done.
const GO: u64 = 1;
const TO_MEMORY: u64 = 2;

/// How many bytes it copies at once here: it has room for twice as many.
pub const BYTES: u64 = 2048;

/// The device, ready to copy.
pub struct Copier {
    registers: u64,
}

impl Copier {
    /// Finds the device in a guest and lets it do DMA.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn find(vm: &mut Vm) -> Result<Self> {
        let (vendor, device) = IDENTITY;
        let folder = vm.script(&format!(
            "for d in /sys/bus/pci/devices/*; do
                if [ $(cat $d/vendor) = {vendor} ] && [ $(cat $d/device) = {device} ]; then echo $d; fi
            done"
        ))?;
        let folder = folder.trim();
        ensure!(!folder.is_empty(), "there is no device that copies");
        // Its memory decoded, and bus mastering: bits 1 and 2 of the command register, which is at 4 (PCI 3.0, 6.2.2).
        vm.script(&format!(
            "echo 1 > {folder}/enable
            printf '\\006\\000' | dd of={folder}/config bs=1 seek=4 conv=notrunc 2> /dev/null"
        ))?;
        let resource = vm.attribute(&format!("{folder}/resource"))?;
        let registers = resource
            .split_whitespace()
            .next()
            .and_then(|start| u64::from_str_radix(start.trim_start_matches("0x"), 16).ok())
            .with_context(|| format!("{folder}/resource is {resource}"))?;
        Ok(Self { registers })
    }

    /// Copies [`BYTES`] from one physical address to another. Whether they have arrived, the device does not know.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn copy(&self, vm: &mut Vm, from: u64, to: u64) -> Result<()> {
        self.transfer(vm, from, BUFFER, GO)?;
        self.transfer(vm, BUFFER, to, GO | TO_MEMORY)
    }

    fn transfer(&self, vm: &mut Vm, source: u64, destination: u64, command: u64) -> Result<()> {
        let register = |offset: u64| format!("{:#x}", self.registers + offset);
        let (go, set) = (register(COMMAND), |offset: u64, value: u64| {
            format!("devmem {} 64 {value:#x}\n", register(offset))
        });
        let told = [
            (SOURCE, source),
            (DESTINATION, destination),
            (COUNT, BYTES),
            (COMMAND, command),
        ]
        .map(|(offset, value)| set(offset, value))
        .concat();
        // A tenth of a second, of the guest's time.
        vm.script(&format!(
            "{told}
            for i in $(seq 100); do
                if [ $(( $(devmem {go} 64) & {GO} )) = 0 ]; then exit 0; fi
                sleep 0.05
            done
            echo 'the device does not end' >&2
            exit 1"
        ))?;
        Ok(())
    }
}
