//! XenStore over xenstored's own socket: enough of it to watch one node.
//!
//! Source: Xen `xen/include/public/io/xs_wire.h`: a header of four 32-bit numbers (type, request, transaction, length of the payload),
//! then the payload.

use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

const SOCKET: &str = "/run/xenstored/socket";

const XS_READ: u32 = 2;
const XS_WATCH: u32 = 4;
const XS_WATCH_EVENT: u32 = 15;
const XS_ERROR: u32 = 16;

/// The most that a payload may have.
const LONGEST: u32 = 4096;

/// A connection that watches one node.
#[derive(Debug)]
pub struct Node {
    socket: UnixStream,
    path: String,
}

impl Node {
    /// Watches the node at this absolute path, whether it is there or not. The first event comes at once.
    ///
    /// # Errors
    ///
    /// If xenstored does not take it.
    pub fn watch(path: &str) -> Result<Self> {
        let socket = UnixStream::connect(SOCKET).with_context(|| format!("connecting to {SOCKET}"))?;
        let node = Self {
            socket,
            path: path.to_owned(),
        };
        node.send(XS_WATCH, &[path, "stopwatch"])?;
        match node.reply()? {
            (XS_WATCH, _) => Ok(node),
            (kind, payload) => bail!("a watch on {path} is answered with {kind}: {payload:?}"),
        }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// If the connection breaks.
    pub fn event(&self) -> Result<()> {
        loop {
            if let (XS_WATCH_EVENT, _) = self.receive()? {
                return Ok(());
            }
        }
    }

    /// Returns the value that the node has now; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// If xenstored says something unheard of.
    pub fn value(&self) -> Result<Option<String>> {
        self.send(XS_READ, &[&self.path])?;
        match self.reply()? {
            (XS_READ, value) => Ok(Some(value)),
            (XS_ERROR, error) if error.trim_end_matches('\0') == "ENOENT" => Ok(None),
            (kind, payload) => bail!("reading {} is answered with {kind}: {payload:?}", self.path),
        }
    }

    fn send(&self, kind: u32, words: &[&str]) -> Result<()> {
        let payload: Vec<u8> = words
            .iter()
            .flat_map(|word| word.bytes().chain(std::iter::once(0)))
            .collect();
        let header = [kind, 0, 0, u32::try_from(payload.len())?];
        let mut message: Vec<u8> = header.iter().flat_map(|number| number.to_le_bytes()).collect();
        message.extend(payload);
        (&self.socket).write_all(&message).context("writing to xenstored")
    }

    /// Returns the next message that is not an event. Ignores events: the caller reads the value after them.
    fn reply(&self) -> Result<(u32, String)> {
        loop {
            match self.receive()? {
                (XS_WATCH_EVENT, _) => {}
                reply => return Ok(reply),
            }
        }
    }

    fn receive(&self) -> Result<(u32, String)> {
        let mut header = [0; 16];
        (&self.socket)
            .read_exact(&mut header)
            .context("reading from xenstored")?;
        let number = |at: usize| {
            let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        let (kind, length) = (number(0), number(12));
        if length > LONGEST {
            bail!("xenstored announces {length} bytes");
        }
        let mut payload = vec![0; usize::try_from(length)?];
        (&self.socket).read_exact(&mut payload)?;
        Ok((kind, String::from_utf8_lossy(&payload).into_owned()))
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
