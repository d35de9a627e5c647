//! From the bytes of a step's pipe to the job's log on disk: 64 KiB, in the two pieces in which they are read.

use std::fs;
use std::path::PathBuf;

use startline_worker::{Console, Lines, Spool, parse_command};

use crate::meter::Meter;

const AMOUNT: usize = 64 * 1024;
/// What the worker reads at once.
const PIECE: usize = 32 * 1024;
const TIMES: u32 = 4;

pub(super) fn short(meter: &mut Meter, _: u32) {
    // As compilers and package managers write them.
    let text = output(|number| format!("   Compiling package-{number} v1.{}.0", number % 90));
    write(meter, &text);
}

pub(super) fn long(meter: &mut Meter, _: u32) {
    let word =
        |number: usize| format!("{{\"level\":\"info\",\"request\":\"{number:08x}\",\"took\":{}}} ", number % 977);
    let text = output(|number| (0..80).map(|at| word(number * 80 + at)).collect());
    write(meter, &text);
}

fn output(line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < AMOUNT {
        text.push_str(&line(number));
        text.push('\n');
        number += 1;
    }
    text.truncate(AMOUNT - 1);
    text.push('\n');
    text.into_bytes()
}

fn write(meter: &mut Meter, plain: &[u8]) {
    let none = Log::new(0);
    none.write(meter, "without secrets", plain);
    let ten = Log::new(10);
    ten.write(meter, "with 10 secrets", plain);
    // One line in eight shows one of them.
    let mut shown = Vec::with_capacity(plain.len());
    for (number, line) in plain.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let secret = secret(number % 10);
        match text.len().checked_sub(secret.len()) {
            Some(kept) if number % 8 == 0 => {
                shown.extend_from_slice(&text[..kept]);
                shown.extend_from_slice(secret.as_bytes());
            }
            _ => shown.extend_from_slice(text),
        }
        shown.push(b'\n');
    }
    let log = Log::new(10);
    let path = log.path.clone();
    log.write(meter, "with 10 secrets that are printed", &shown[..plain.len()]);
    assert!(!path.exists());
}

/// As tokens and keys look; each has some dozen derived forms.
fn secret(number: usize) -> String {
    format!("{}{number}-c0ffee{:04x}-s3cr3t", ["ghs_", "AKIA", "npm_", "xoxb-"][number % 4], number * 7919 % 65_521)
}

struct Log {
    path: PathBuf,
    console: Console,
    secrets: usize,
}

impl Log {
    fn new(secrets: usize) -> Self {
        let path = std::env::temp_dir().join(format!("startline-micro-{}-{secrets}.log", std::process::id()));
        let (spool, _) = Spool::create(&path).expect("a log in the temporary directory");
        let mut console = Console::new(spool);
        (0..secrets).for_each(|number| console.masker.add(&secret(number)));
        Self { path, console, secrets }
    }

    fn write(mut self, meter: &mut Meter, name: &'static str, bytes: &[u8]) {
        let mut lines = Lines::default();
        meter.repeat(name, TIMES, || {
            for piece in bytes.chunks(PIECE) {
                lines.push(piece);
                while let Some(line) = lines.next(&self.console.masker) {
                    assert!(line.is_piece || parse_command(line.text, None).is_none(), "plain output");
                    self.console.write(line.text);
                }
            }
            self.console.flush();
        });
        let written = fs::read_to_string(&self.path).expect("the log");
        let times = TIMES as usize + 1;
        assert_eq!(written.lines().count(), times * bytes.split_inclusive(|byte| *byte == b'\n').count());
        assert!((0..self.secrets).all(|number| !written.contains(&secret(number))), "nothing is shown");
        fs::remove_file(&self.path).expect("the log");
    }
}
