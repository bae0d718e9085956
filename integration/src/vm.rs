//! A machine: QEMU with Xen or bare Linux, NVDIMMs, the agent's channel, a console that is watched.

use crate::machine::{self, Config, Kind, Memory, Nvdimm, Root};
use crate::manifest::Manifest;
use crate::panic;
use crate::poll;
use crate::protocol::{Action, Message, Outcome, Request};
use crate::qmp::Qmp;
use crate::snapshot::{self, Snapshot};
use serde_json::json;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// How long a machine may take until its agent says hello. It takes about ten seconds, an installed system up to a minute; nothing has
/// been measured yet that this could be scaled by, so it allows for a host five times as slow.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// How long a step may take on an ordinary host.
const STEP_LIMIT: Duration = Duration::from_secs(180);
/// How long it gets for the rest of an answer that has been overdue.
const NUDGE_LIMIT: Duration = Duration::from_secs(5);
/// How long a machine may take to turn itself off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(60);
/// How often the console and the process are looked at while waiting.
const TICK: Duration = Duration::from_millis(100);
/// How much of the console is shown when something goes wrong.
const TAIL_LINES: usize = 40;

/// What went wrong with a machine, as opposed to with what a scenario checks.
#[derive(Debug)]
pub enum Error {
    /// It never got as far as its agent.
    NotUp {
        /// Why.
        reason: String,
        /// The end of its console.
        tail: String,
    },
    /// Xen, the kernel or the agent broke.
    Crashed {
        /// The line that says so.
        line: String,
        /// The end of its console.
        tail: String,
    },
    /// It did not answer in time.
    Hung {
        /// What it was to do.
        what: String,
        /// The end of its console.
        tail: String,
    },
    /// The agent could not carry out a request.
    Agent(String),
    /// This side failed.
    Io(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotUp { reason, tail } => {
                write!(f, "the VM did not come up: {reason}; its console ended with\n{tail}")
            }
            Self::Crashed { line, tail } => write!(f, "the VM crashed: {line}; its console ended with\n{tail}"),
            Self::Hung { what, tail } => write!(f, "the VM hung at {what}; its console ended with\n{tail}"),
            Self::Agent(error) => write!(f, "the agent in the VM failed: {error}"),
            Self::Io(error) => write!(f, "talking to the VM failed: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a program in the guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A running machine. Dropped, it is killed.
pub struct Vm {
    qemu: Child,
    console: PathBuf,
    sockets: tempfile::TempDir,
    agent: UnixStream,
    received: Vec<u8>,
    next_id: u64,
}

impl Vm {
    /// Starts a machine with its console in `folder`, and waits for its agent. If a machine like it has booted before, it continues from
    /// that snapshot.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn boot(manifest: &Manifest, folder: &Path, config: &Config) -> Result<Self, Error> {
        let boots = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|entry| is_console(&entry.path()))
            .count();
        let console = folder.join(format!("console-{}.log", boots + 1));
        fs::write(&console, "")?;
        let snapshot = Snapshot::of(manifest, config)?;
        let mut vm = match &snapshot {
            Some(snapshot) if snapshot.is_there() || snapshot.has_room()? => {
                Self::take_snapshot(manifest, config, snapshot, &console)?;
                snapshot.begin_console(&console)?;
                Self::wake(manifest, config, snapshot, &console)?
            }
            _ => Self::start(manifest, config, Memory::Own, &console)?,
        };
        if config.root == Root::Memory {
            vm.begin()?;
        }
        Ok(vm)
    }

    /// Boots a machine, and saves it as it is then, unless that has been done.
    fn take_snapshot(manifest: &Manifest, config: &Config, snapshot: &Snapshot, console: &Path) -> Result<(), Error> {
        let _lock = snapshot.lock()?;
        if snapshot.is_there() {
            return Ok(());
        }
        let memory = snapshot.memory_to_be()?;
        let vm = Self::start(manifest, config, Memory::In(&memory), console)?;
        let taken = vm.qmp().and_then(|mut qmp| snapshot.take(&mut qmp, console));
        taken.map_err(|error| vm.not_up(format!("taking a snapshot of it failed: {error:#}")))
    }

    /// Boots a machine and waits until its agent is up.
    fn start(manifest: &Manifest, config: &Config, memory: Memory<'_>, console: &Path) -> Result<Self, Error> {
        let begin = Instant::now();
        let mut vm = Self::launch(manifest, config, memory, console, &[])?;
        match vm.receive(BOOT_LIMIT, "booting") {
            Ok(Message::Hello { xen }) if xen == (config.kind == Kind::Xen) => {
                if config.root == Root::Memory {
                    poll::booted(begin.elapsed());
                }
                Ok(vm)
            }
            Ok(message) => Err(vm.not_up(format!("its agent said {message:?}"))),
            Err(Error::Hung { tail, .. }) => Err(Error::NotUp {
                reason: format!("no word from its agent in {} s", BOOT_LIMIT.as_secs()),
                tail,
            }),
            Err(Error::Crashed { line, tail }) => Err(Error::NotUp { reason: line, tail }),
            Err(error) => Err(error),
        }
    }

    /// Wakes a machine up.
    fn wake(manifest: &Manifest, config: &Config, snapshot: &Snapshot, console: &Path) -> Result<Self, Error> {
        let begin = Instant::now();
        let memory = snapshot.memory();
        let vm = Self::launch(manifest, config, Memory::From(&memory), console, &snapshot::WAITING)?;
        // Until it runs, what is sent to its agent can be lost.
        let awake = vm.qmp().and_then(|mut qmp| snapshot.wake(&mut qmp));
        match awake {
            Ok(()) => {
                poll::woken(begin.elapsed());
                Ok(vm)
            }
            Err(error) => Err(Error::NotUp {
                reason: format!("it cannot be woken up: {error:#}"),
                tail: vm.tail(),
            }),
        }
    }

    /// Starts QEMU.
    fn launch(
        manifest: &Manifest,
        config: &Config,
        memory: Memory<'_>,
        console: &Path,
        more: &[&str],
    ) -> Result<Self, Error> {
        // A socket's path must be short, and the scenario's folder may be deep.
        let sockets = tempfile::tempdir()?;
        // setpriv makes QEMU end with this process, however this process ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(machine::emulator(manifest, config)?)
            .args(machine::arguments(manifest, config, memory, console, sockets.path())?)
            .args(more);
        if !config.interactive {
            command.stdin(Stdio::null());
        }
        let log = fs::File::create(qemu_log(console))?;
        let mut qemu = if config.interactive {
            command.spawn()?
        } else {
            command.stdout(log.try_clone()?).stderr(log).spawn()?
        };
        let agent = match connect(&sockets.path().join("agent"), &mut qemu) {
            Ok(agent) => agent,
            Err(error) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                let tail = fs::read_to_string(qemu_log(console)).unwrap_or_default();
                return Err(Error::NotUp {
                    reason: format!("QEMU did not start: {error}"),
                    tail,
                });
            }
        };
        agent.set_read_timeout(Some(TICK))?;
        Ok(Self {
            qemu,
            console: console.to_owned(),
            sockets,
            agent,
            received: Vec::new(),
            next_id: 0,
        })
    }

    /// Gives a machine the tools under test, and what makes it differ from all others.
    fn begin(&mut self) -> Result<(), Error> {
        let mut seed = vec![0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        match self.request(Action::Begin { time, seed }, "taking the tools") {
            Ok(Outcome::Begun) => Ok(()),
            Ok(outcome) => Err(self.not_up(format!("its agent said {outcome:?}"))),
            Err(error) => Err(self.not_up(error.to_string())),
        }
    }

    fn not_up(&self, reason: String) -> Error {
        Error::NotUp {
            reason,
            tail: self.tail(),
        }
    }

    /// Runs a program in the guest to its end; every exit code is fine.
    ///
    /// # Errors
    ///
    /// If the guest does not answer or the program cannot be started.
    pub fn exec(&mut self, argv: &[&str], stdin: &str) -> Result<Output, Error> {
        let command = argv.join(" ");
        let action = Action::Exec {
            argv: argv.iter().map(ToString::to_string).collect(),
            stdin: stdin.to_owned(),
        };
        match self.request(action, &command)? {
            Outcome::Exited { code, stdout, stderr } => Ok(Output {
                command,
                code,
                stdout,
                stderr,
            }),
            outcome => Err(Error::Agent(format!("{command}: {outcome:?}"))),
        }
    }

    /// Starts a program in the guest and leaves it running.
    ///
    /// # Errors
    ///
    /// If the guest does not answer or the program cannot be started.
    pub fn spawn(&mut self, argv: &[&str]) -> Result<u32, Error> {
        let command = argv.join(" ");
        match self.request(
            Action::Spawn {
                argv: argv.iter().map(ToString::to_string).collect(),
            },
            &command,
        )? {
            Outcome::Spawned { pid } => Ok(pid),
            outcome => Err(Error::Agent(format!("{command}: {outcome:?}"))),
        }
    }

    /// Starts a shell on the console; its end turns the machine off.
    ///
    /// # Errors
    ///
    /// If the guest does not answer or cannot.
    pub fn start_shell(&mut self) -> Result<(), Error> {
        self.request(Action::Shell, "starting a shell").map(|_| ())
    }

    /// Turns the machine off and waits until it is.
    ///
    /// # Errors
    ///
    /// If it does not turn itself off, or breaks while it does.
    pub fn power_off(mut self) -> Result<(), Error> {
        self.send(Action::PowerOff)?;
        let deadline = Instant::now() + poll::limit(POWER_OFF_LIMIT);
        while self.qemu.try_wait()?.is_none() {
            self.check_console()?;
            if Instant::now() > deadline {
                return Err(Error::Hung {
                    what: "powering off".to_owned(),
                    tail: self.tail(),
                });
            }
            std::thread::sleep(TICK);
        }
        self.check_console()
    }

    /// Waits until the machine has ended by itself.
    ///
    /// # Errors
    ///
    /// If it cannot be waited for.
    pub fn wait(mut self) -> Result<(), Error> {
        self.qemu.wait()?;
        Ok(())
    }

    /// QEMU's monitor.
    ///
    /// # Errors
    ///
    /// If QEMU does not answer.
    pub fn qmp(&self) -> anyhow::Result<Qmp> {
        Qmp::connect(&self.sockets.path().join("qmp"))
    }

    /// Plugs an NVDIMM in. `index` is one that no other NVDIMM has; those that were there at the start count from 1.
    ///
    /// # Errors
    ///
    /// If QEMU refuses.
    pub fn plug(&mut self, index: usize, nvdimm: &Nvdimm) -> anyhow::Result<()> {
        let size = fs::metadata(&nvdimm.file)?.len();
        let mut qmp = self.qmp()?;
        let memory = json!({
            "qom-type": "memory-backend-file", "id": format!("mem{index}"), "mem-path": nvdimm.file,
            "share": true, "size": size, "align": 2 << 20,
        });
        qmp.execute("object-add", memory)?;
        let mut device = json!({ "driver": "nvdimm", "id": format!("nv{index}"), "memdev": format!("mem{index}") });
        if let (Some(label_size), Some(device)) = (nvdimm.label_size, device.as_object_mut()) {
            device.insert("label-size".to_owned(), json!(label_size));
        }
        qmp.execute("device_add", device)?;
        Ok(())
    }

    /// Cuts the power, unless something in the guest has broken.
    ///
    /// # Errors
    ///
    /// If its console says so.
    pub fn leave(self) -> Result<(), Error> {
        self.check_console()
    }

    /// Cuts the power: nothing in the guest gets a chance to flush anything.
    pub fn cut_power(self) {
        drop(self);
    }

    /// Returns all that the console has said so far.
    pub fn console(&self) -> String {
        fs::read(&self.console)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Returns the end of the console, and what QEMU itself has said.
    fn tail(&self) -> String {
        let qemu = fs::read_to_string(qemu_log(&self.console)).unwrap_or_default();
        format!("{}\n{qemu}", panic::tail(&self.console(), TAIL_LINES))
    }

    fn check_console(&self) -> Result<(), Error> {
        let console = self.console();
        match panic::find(&console) {
            None => Ok(()),
            Some(line) => {
                // The rest of the message is on its way.
                std::thread::sleep(Duration::from_millis(500));
                Err(Error::Crashed {
                    line: line.to_owned(),
                    tail: self.tail(),
                })
            }
        }
    }

    fn send(&mut self, action: Action) -> Result<u64, Error> {
        self.next_id += 1;
        let mut line = serde_json::to_vec(&Request {
            id: self.next_id,
            action,
        })
        .map_err(io::Error::from)?;
        line.push(b'\n');
        if self.agent.write_all(&line).is_err() {
            return Err(self.gone("sending a request"));
        }
        Ok(self.next_id)
    }

    /// Returns the error for a channel that QEMU has closed: the console may say why.
    fn gone(&self, what: &str) -> Error {
        match self.check_console() {
            Err(crashed) => crashed,
            Ok(()) => Error::Crashed {
                line: format!("QEMU ended during {what}"),
                tail: self.tail(),
            },
        }
    }

    fn request(&mut self, action: Action, what: &str) -> Result<Outcome, Error> {
        let id = self.send(action)?;
        match self.receive(poll::limit(STEP_LIMIT), what)? {
            Message::Reply {
                id: of,
                result: Outcome::Failed { error },
            } if of == id => Err(Error::Agent(error)),
            Message::Reply { id: of, result } if of == id => Ok(result),
            message => Err(Error::Agent(format!("unexpected answer to {what}: {message:?}"))),
        }
    }

    /// Returns the agent's next message.
    fn receive(&mut self, limit: Duration, what: &str) -> Result<Message, Error> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|error| Error::Agent(format!("{error} in {:?}", String::from_utf8_lossy(&line))));
            }
            let mut buffer = [0; 4096];
            match self.agent.read(&mut buffer) {
                Ok(0) => return Err(self.gone(what)),
                Ok(count) => self.received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.check_console()?;
                }
                Err(_) => return Err(self.gone(what)),
            }
            if Instant::now() > deadline {
                let whereabouts = self.whereabouts();
                return Err(Error::Hung {
                    what: what.to_owned(),
                    tail: format!("{}\n{whereabouts}", self.tail()),
                });
            }
        }
    }

    /// Returns what a machine that does not answer is at: whether its processor runs, where, and whether it would have answered had it been
    /// interrupted once more.
    fn whereabouts(&mut self) -> String {
        let mut lines = Vec::new();
        for _ in 0..3 {
            let registers = self.qmp().and_then(|mut qmp| qmp.monitor("info registers"));
            let registers = registers.unwrap_or_else(|error| format!("RIP= is not known: {error:#}"));
            lines.extend(
                registers
                    .lines()
                    .filter(|line| line.starts_with("RIP="))
                    .map(str::to_owned),
            );
            std::thread::sleep(TICK);
        }
        lines.push(
            match self.answers_nudge() {
                true => {
                    "its agent answered once it was sent an empty line: an interrupt of the channel may have been lost"
                }
                false => "its agent does not answer an empty line either",
            }
            .to_owned(),
        );
        lines.join("\n")
    }

    /// Returns whether an empty line, which asks for nothing, gets something out of the agent.
    fn answers_nudge(&mut self) -> bool {
        if self.agent.write_all(b"\n").is_err() {
            return false;
        }
        let deadline = Instant::now() + NUDGE_LIMIT;
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            if self.agent.read(&mut buffer).is_ok_and(|count| count > 0) {
                return true;
            }
        }
        false
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Returns what QEMU itself says, beside the console of its machine.
fn qemu_log(console: &Path) -> PathBuf {
    console.with_file_name("qemu.log")
}

fn is_console(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("console-"))
}

/// Connects to a socket that QEMU is about to make.
fn connect(path: &Path, qemu: &mut Child) -> Result<UnixStream, String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error.to_string()),
            Err(_) => {}
        }
        if let Ok(Some(status)) = qemu.try_wait() {
            return Err(status.to_string());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
