//! Being asked to stop, once and again.

use std::io;

use tokio::signal::unix::{self, SignalKind};

use crate::serve::Drain;

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: somebody pressed Ctrl-C.
    Interrupt,
    /// SIGTERM: the service manager stops us.
    Terminate,
}

impl Signal {
    /// The exit code by which a shell tells that the signal ended a process.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// The signal's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Hears SIGINT and SIGTERM. While one exists, and after, neither ends the process by itself.
#[derive(Debug)]
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Listens from now on; a signal that arrives before the first [`recv`](Self::recv) is kept.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// The next signal. The first asks for an orderly stop; who sends a second is impatient, and should be obeyed at
    /// once. Cancel safe.
    pub async fn recv(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => Signal::Terminate,
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            else => std::future::pending().await,
        }
    }

    /// Starts the drain at the first signal and aborts it at the second, which it answers; the caller then exits at
    /// once, with [`Signal::exit_code`]. Never ends without two signals: race it against the end of the work.
    pub async fn drive(mut self, drain: Drain) -> Signal {
        let first = self.recv().await;
        tracing::info!(signal = first.name(), "stopping; a second {} stops at once", first.name());
        drain.start();
        let second = self.recv().await;
        tracing::warn!(signal = second.name(), "stopping at once");
        drain.abort();
        second
    }
}
