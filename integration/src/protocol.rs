//! What goes over the agent's channel, the guest's second serial port: one JSON document a line, requests one way and replies the other.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the host asks of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Repeated in the reply.
    pub id: u64,
    /// What to do.
    pub action: Action,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Take the tools under test from their disk, this time, and this randomness: a machine that was woken up has those of the machine
    /// that it was a snapshot of.
    Begin {
        /// The time since 1970.
        time: Duration,
        /// Bytes that no other machine has got.
        seed: Vec<u8>,
    },
    /// Run a program to its end.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
        /// What it reads from its standard input.
        stdin: String,
    },
    /// Start a program and leave it running.
    Spawn {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// Start a shell on the console; its end turns the machine off.
    Shell,
    /// Flush everything and turn the machine off.
    PowerOff,
}

/// What the guest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The agent is up: the first message.
    Hello {
        /// Whether the guest runs under Xen.
        xen: bool,
    },
    /// A request has been carried out.
    Reply {
        /// The request's.
        id: u64,
        /// What came of it.
        result: Outcome,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The machine is ready for the next request.
    Begun,
    /// The program ended.
    Exited {
        /// Its exit code; `None` if a signal ended it.
        code: Option<i32>,
        /// Its standard output; bytes that are not text are replaced.
        stdout: String,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// The program or shell runs.
    Spawned {
        /// Its process number.
        pid: u32,
    },
    /// It could not be done.
    Failed {
        /// Why.
        error: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let result = Outcome::Exited {
            code: Some(3),
            stdout: "a\nb\n".to_owned(),
            stderr: String::new(),
        };
        let message = Message::Reply { id: 7, result };
        let line = serde_json::to_string(&message).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), message);
    }
}
