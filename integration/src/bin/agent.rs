//! Does what the host asks over the second serial port: as the guest's first process, which mounts what a system has; or as a service
//! of an installed system.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "run by developers, on a terminal or in CI"
)]

use anyhow::{Context as _, Result, ensure};
use rustix::ioctl::{NoArg, Opcode, ioctl};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use xen_pmem_integration::protocol::{Action, Message, Outcome, Request};

/// The channel's device.
const CHANNEL: &str = "/dev/ttyS1";
/// The disk with the tools under test.
const TOOLS: &str = "/dev/vda";
/// Where it is mounted.
const TOOLS_FOLDER: &str = "/tools";
/// What it takes: the disk's drivers, and its file system.
const TOOLS_DRIVERS: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];
/// Makes the kernel's random numbers depend at once, not within a minute, on the bytes written to their pool
/// (`include/uapi/linux/random.h`).
const RNDRESEEDCRNG: Opcode = 0x5207;
/// Where programs are; busybox's come last.
const PATH: &str = "/tools:/usr/sbin:/usr/bin:/usr/local/bin";

fn main() {
    if let Err(error) = serve() {
        // The console is watched for this.
        eprintln!("xen-pmem-agent: {error:#}");
    }
    // The first process must not end: that is a kernel panic, which says nothing. A service that ends leaves nothing to ask.
    power_off();
}

/// Returns whether this is the guest's first process.
fn is_init() -> bool {
    rustix::process::getpid() == rustix::process::Pid::INIT
}

/// Makes what a system has that runs from an initramfs alone.
fn set_up() -> Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mount(kind, target, kind, MountFlags::empty(), None).with_context(|| format!("mounting {target}"))?;
    }
    Command::new("/usr/bin/busybox")
        .args(["--install", "-s", "/usr/local/bin"])
        .status()
        .context("installing busybox's applets")?;
    succeed(Command::new("/usr/sbin/modprobe").arg("--all").args(TOOLS_DRIVERS))?;
    fs::create_dir(TOOLS_FOLDER).with_context(|| format!("making {TOOLS_FOLDER}"))?;
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn serve() -> Result<()> {
    if is_init() {
        set_up()?;
    }
    let channel = open_channel()?;
    say(
        &channel,
        &Message::Hello {
            xen: Path::new("/sys/hypervisor/type").exists(),
        },
    )?;
    for line in BufReader::new(&channel).lines() {
        let line = line?;
        // An empty one asks for nothing: it is there to be interrupted for.
        if line.is_empty() {
            continue;
        }
        let Request { id, action } = serde_json::from_str(&line).context("a request that is not of the protocol")?;
        let result = carry_out(action);
        say(&channel, &Message::Reply { id, result })?;
    }
    Ok(())
}

/// Opens the channel as a plain run of bytes: no echo, no line editing, no translation.
fn open_channel() -> Result<File> {
    let channel = OpenOptions::new()
        .read(true)
        .write(true)
        .open(CHANNEL)
        .with_context(|| format!("opening {CHANNEL}"))?;
    let mut attributes = tcgetattr(&channel)?;
    attributes.make_raw();
    tcsetattr(&channel, OptionalActions::Now, &attributes)?;
    Ok(channel)
}

fn say(mut channel: &File, message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    channel.write_all(&line).context("writing to the host")
}

fn carry_out(action: Action) -> Outcome {
    let result = match action {
        Action::Begin { time, seed } => begin(time, &seed),
        Action::Exec { argv, stdin } => exec(&argv, &stdin),
        Action::Spawn { argv } => spawn(&argv),
        Action::Shell => shell(),
        Action::PowerOff => power_off(),
    };
    result.unwrap_or_else(|error| Outcome::Failed {
        error: format!("{error:#}"),
    })
}

/// Makes this machine differ from all others that start from the same snapshot.
fn begin(time: Duration, seed: &[u8]) -> Result<Outcome> {
    mount(TOOLS, TOOLS_FOLDER, "ext4", MountFlags::RDONLY, None).with_context(|| format!("mounting {TOOLS}"))?;
    let time = Timespec::try_from(time).context("a time beyond all clocks")?;
    clock_settime(ClockId::Realtime, time).context("setting the clock")?;
    let mut random = OpenOptions::new().write(true).open("/dev/urandom")?;
    random.write_all(seed)?;
    // SAFETY: this request takes no argument and touches no memory of the process.
    unsafe { ioctl(&random, NoArg::<RNDRESEEDCRNG>::new()) }.context("seeding the kernel's random numbers")?;
    Ok(Outcome::Begun)
}

fn command(argv: &[String]) -> Result<Command> {
    let (program, arguments) = argv.split_first().context("a command without a program")?;
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", PATH).env("HOME", "/root");
    Ok(command)
}

fn exec(argv: &[String], stdin: &str) -> Result<Outcome> {
    let mut child = command(argv)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {argv:?}"))?;
    if let Some(mut input) = child.stdin.take() {
        let stdin = stdin.to_owned();
        // On a separate thread from the reading of its output: otherwise each could wait for the other. A program that does not read its
        // input is not an error.
        std::thread::spawn(move || input.write_all(stdin.as_bytes()));
    }
    let output = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Outcome::Exited {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    })
}

fn spawn(argv: &[String]) -> Result<Outcome> {
    let log = File::create("/run/spawned.log")?;
    let child = command(argv)?
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {argv:?}"))?;
    Ok(Outcome::Spawned { pid: child.id() })
}

/// Starts a shell on the console's own device: `/dev/console` cannot be a controlling terminal.
fn shell() -> Result<Outcome> {
    let consoles = fs::read_to_string("/sys/class/tty/console/active").context("looking for the console")?;
    let console = Path::new("/dev").join(consoles.split_whitespace().last().context("there is no console")?);
    let terminal = OpenOptions::new().read(true).write(true).open(&console);
    let terminal = terminal.with_context(|| format!("opening {}", console.display()))?;
    let mut child = Command::new("/usr/bin/busybox")
        .args(["setsid", "-c", "/usr/bin/busybox", "sh"])
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("PS1", "guest# ")
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .stderr(terminal)
        .spawn()
        .context("starting a shell")?;
    let pid = child.id();
    std::thread::spawn(move || {
        let _ = child.wait();
        power_off();
    });
    Ok(Outcome::Spawned { pid })
}

fn power_off() -> ! {
    if !is_init() {
        // The system's own way; it ends this process, too.
        if let Err(error) = Command::new("systemctl").arg("poweroff").status() {
            eprintln!("xen-pmem-agent: cannot power off: {error}");
        }
        loop {
            std::thread::park();
        }
    }
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        eprintln!("xen-pmem-agent: cannot power off: {error}");
    }
    loop {
        std::thread::park();
    }
}
