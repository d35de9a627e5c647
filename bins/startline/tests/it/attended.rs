//! A person at a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{OpenptyResult, openpty};

use crate::harness::eventually;

/// A command at a terminal of its own: questions and answers go over that, data goes to standard output.
pub(crate) struct Attended {
    child: Child,
    pub(crate) keyboard: File,
    screen: Arc<Mutex<String>>,
    /// How much of the screen was read by whoever answers.
    seen: usize,
}

impl Attended {
    pub(crate) fn start(command: &mut Command) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let error = slave.try_clone().unwrap();
        let child = command.stdin(slave).stderr(error).stdout(Stdio::piped()).spawn().unwrap();
        // The command keeps its side of the terminal for later processes; without it the end of this one can be seen.
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let keyboard = File::from(master);
        let mut display = keyboard.try_clone().unwrap();
        let screen = Arc::<Mutex<String>>::default();
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends with an error when nobody holds the terminal any more.
            while let Ok(count @ 1..) = display.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, keyboard, screen, seen: 0 }
    }

    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Waits for a question that holds `question`, and types.
    pub(crate) async fn answer(&mut self, question: &str, keys: &str) {
        self.sees(question).await;
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) async fn sees(&mut self, text: &str) {
        let (seen, screen) = (self.seen, Arc::clone(&self.screen));
        self.seen = eventually(&format!("the terminal shows `{text}`"), async || {
            let screen = screen.lock().unwrap();
            screen[seen..].find(text).map(|at| seen + at + text.len())
        })
        .await;
    }

    /// Exit code, data and everything that the terminal showed.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String, String) {
        let code = eventually("the command ends", async || self.child.try_wait().unwrap()).await.code();
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (code, out, self.screen())
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
