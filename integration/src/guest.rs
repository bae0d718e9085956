//! What scenarios do in a guest, in the words of scenarios.

use crate::poll;
use crate::vm::{Output, Vm};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::Duration;

/// Drivers that libnvdimm needs for namespaces.
const NVDIMM_CORE: &[&str] = &["libnvdimm", "nfit"];
/// Drivers that namespaces need for block devices.
const NVDIMM_BLOCK: &[&str] = &["nd_btt", "nd_pmem"];

impl Vm {
    /// Runs a command line of words separated by spaces, which must end with exit code 0, and returns its standard output.
    ///
    /// # Errors
    ///
    /// If it does not; with all that it said.
    pub fn run(&mut self, command: &str) -> Result<String> {
        Ok(self.run_for(0, command)?.stdout)
    }

    /// Runs a command line of words separated by spaces, which must end with exit code `code`.
    ///
    /// # Errors
    ///
    /// If it does not; with all that it said.
    pub fn run_for(&mut self, code: i32, command: &str) -> Result<Output> {
        let argv: Vec<&str> = command.split_whitespace().collect();
        let output = self.exec(&argv, "")?;
        let Output { stdout, stderr, .. } = &output;
        match output.code {
            Some(found) if found == code => Ok(output),
            found => {
                let found = found.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
                bail!("`{command}` ended with {found}, not with exit code {code}\n{stdout}{stderr}")
            }
        }
    }

    /// Runs a command line that prints a JSON document and ends with exit code `code`.
    ///
    /// # Errors
    ///
    /// If it does not; with all that it said.
    pub fn json(&mut self, code: i32, command: &str) -> Result<Value> {
        let output = self.run_for(code, command)?;
        serde_json::from_str(&output.stdout).with_context(|| {
            format!(
                "`{command}` printed something that is no JSON document: {}",
                output.stdout
            )
        })
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&mut self, path: &str, content: &str) -> Result<()> {
        let output = self.exec(&["dd", &format!("of={path}")], content)?;
        ensure!(output.code == Some(0), "writing {path}: {}", output.stderr);
        Ok(())
    }

    /// Runs a shell script, which must succeed.
    ///
    /// # Errors
    ///
    /// If it does not; with all that it said.
    pub fn script(&mut self, script: &str) -> Result<String> {
        let output = self.exec(&["sh", "-e"], script)?;
        ensure!(
            output.code == Some(0),
            "the script\n{script}\nended with {:?}\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }

    /// Returns the content of a file, without white space around it.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn attribute(&mut self, path: &str) -> Result<String> {
        Ok(self.run(&format!("cat {path}"))?.trim().to_owned())
    }

    /// Returns an attribute that is a decimal or hexadecimal number.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not valid.
    pub fn number(&mut self, path: &str) -> Result<u64> {
        let text = self.attribute(path)?;
        let number = match text.strip_prefix("0x") {
            Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
            None => text.parse(),
        };
        number.with_context(|| format!("{path} is {text:?}"))
    }

    /// Loads the modules that make an NVDIMM's namespaces appear, without their driver.
    ///
    /// # Errors
    ///
    /// If a module cannot be loaded.
    pub fn load_nvdimm_core(&mut self) -> Result<()> {
        self.load(NVDIMM_CORE)
    }

    /// Loads the modules that make an NVDIMM's block device appear.
    ///
    /// # Errors
    ///
    /// If a module cannot be loaded.
    pub fn load_nvdimm_drivers(&mut self) -> Result<()> {
        self.load(NVDIMM_BLOCK)?;
        self.load(NVDIMM_CORE)
    }

    fn load(&mut self, modules: &[&str]) -> Result<()> {
        self.run(&format!("modprobe --all {}", modules.join(" "))).map(drop)
    }

    /// Waits until a path is there.
    ///
    /// # Errors
    ///
    /// If it does not appear within half a minute.
    pub fn wait_for(&mut self, path: &str) -> Result<()> {
        poll::until(&format!("{path} is there"), Duration::from_secs(30), || {
            Ok((self.exec(&["test", "-e", path], "")?.code == Some(0)).then_some(()))
        })
    }

    /// Starts xenstored, and makes the domain that it runs in known to it as Dom0.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn start_xenstored(&mut self, xen_version: &str) -> Result<()> {
        self.load(&["xen-evtchn", "xen-gntdev", "xen-privcmd", "xenfs"])?;
        self.script("mount -t xenfs xenfs /proc/xen && mkdir -p /run/xenstored /var/lib/xenstored /var/lib/xen")?;
        self.start_xenstored_again(xen_version)
    }

    /// Starts xenstored where one was running before.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn start_xenstored_again(&mut self, xen_version: &str) -> Result<()> {
        let bin = format!("/usr/lib/xen-{xen_version}/bin");
        self.run(&format!("{bin}/xenstored --pid-file /run/xenstored/pid"))?;
        self.wait_for("/run/xenstored/socket")?;
        self.run(&format!("{bin}/xen-init-dom0"))?;
        Ok(())
    }
}
