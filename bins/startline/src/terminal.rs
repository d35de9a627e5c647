//! Questions to whoever sits at the terminal. They go to standard error, so that standard output is the answer alone.

use std::io::{self, BufRead, IsTerminal, Read};
use std::os::fd::AsFd;

use anstream::eprint;
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

/// Nobody answers: the input has ended, or somebody pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The input has ended.
    #[error("the input ended before the question was answered; nothing was done")]
    End,
    /// Ctrl-C in hidden input; elsewhere the terminal makes a signal of it.
    #[error("interrupted; nothing was done")]
    Interrupted,
    /// The terminal failed.
    #[error("cannot read from the terminal: {0}")]
    Broken(#[from] io::Error),
}

/// Whether somebody can be asked: answers come from a terminal, and questions can be seen.
pub(crate) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and reads a line without the blanks around it.
pub(crate) fn ask(question: &str) -> Result<String, NoAnswer> {
    eprint!("{question}");
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(NoAnswer::End),
        // A line that ends with the input was not sent off.
        Ok(_) if !line.ends_with('\n') => Err(NoAnswer::End),
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// Asks, and reads a line that the terminal does not show.
pub(crate) fn ask_hidden(question: &str) -> Result<String, NoAnswer> {
    let quiet = Quiet::begin()?;
    eprint!("{question}");
    let answer = read_raw(&mut io::stdin().lock());
    drop(quiet);
    // The line break was not shown either.
    eprint!("\n");
    answer
}

/// The terminal without echo, until dropped. Keys that make signals come as characters meanwhile: a signal would end
/// the process and leave the terminal mute.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn begin() -> Result<Self, io::Error> {
        let before = termios::tcgetattr(io::stdin().as_fd())?;
        let mut mode = before.clone();
        mode.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &mode)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to put right.
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}

/// A line from a terminal that edits nothing by itself.
fn read_raw(input: &mut impl BufRead) -> Result<String, NoAnswer> {
    let mut line: Vec<u8> = Vec::new();
    for byte in input.by_ref().bytes() {
        match byte? {
            b'\n' | b'\r' => {
                let text = String::from_utf8(line);
                return Ok(text.map_err(|_| io::Error::other("it is not UTF-8"))?.trim().to_owned());
            }
            3 => return Err(NoAnswer::Interrupted),
            4 if line.is_empty() => return Err(NoAnswer::End),
            8 | 127 => {
                // A character may be several bytes.
                while line.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            // Ctrl-U.
            21 => line.clear(),
            byte if byte < 32 => {}
            byte => line.push(byte),
        }
    }
    Err(NoAnswer::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_raw_line_do_what_they_do_elsewhere() {
        let read = |keys: &str| read_raw(&mut keys.as_bytes());
        assert_eq!(read("slr_ab\x7fc\r").unwrap(), "slr_ac");
        assert_eq!(read("aü\x7f\x7f\x7fb\n").unwrap(), "b");
        assert_eq!(read("wrong\x15right\n").unwrap(), "right");
        assert!(matches!(read("abc\x03"), Err(NoAnswer::Interrupted)));
        assert!(matches!(read("\x04"), Err(NoAnswer::End)));
        assert!(matches!(read("abc"), Err(NoAnswer::End)), "a line that nobody ended is no answer");
    }
}
