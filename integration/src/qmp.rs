//! QEMU's own channel: reading guest memory from outside, hotplug.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection to QEMU's monitor.
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and negotiates.
    ///
    /// # Errors
    ///
    /// If QEMU does not answer.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
        };
        qmp.receive()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self
            .stream
            .read_line(&mut line)
            .context("QEMU does not answer on its monitor")?
            == 0
        {
            bail!("QEMU closed its monitor");
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Runs a command and returns its result.
    ///
    /// # Errors
    ///
    /// If QEMU refuses it or does not answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.stream.get_mut(), "{request}")?;
        loop {
            let mut answer = self.receive()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            // Anything else is an event.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Returns what the monitor for people says to a command.
    ///
    /// # Errors
    ///
    /// If QEMU does not answer.
    pub fn monitor(&mut self, command: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Reads `count` bytes of guest physical memory.
    ///
    /// # Errors
    ///
    /// If QEMU does not answer, or answers something else.
    pub fn physical_memory(&mut self, address: u64, count: usize) -> Result<Vec<u8>> {
        let text = self.monitor(&format!("xp /{count}xb {address:#x}"))?;
        let words = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .flat_map(|(_, bytes)| bytes.split_whitespace());
        let bytes: Vec<u8> = words
            .map(|word| u8::from_str_radix(word.trim_start_matches("0x"), 16).with_context(|| text.clone()))
            .collect::<Result<_>>()?;
        if bytes.len() != count {
            bail!("asked QEMU for {count} bytes at {address:#x}, got {text:?}");
        }
        Ok(bytes)
    }
}
