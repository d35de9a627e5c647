//! `startline-micro`: lists the scenes, or plays one of them.
#![expect(clippy::print_stdout, reason = "bench/instructions reads it")]

use std::process::ExitCode;

use startline_micro::{Meter, SCENES};

fn main() -> ExitCode {
    let asked = std::env::args().nth(1);
    let Some(asked) = asked else {
        for scene in SCENES {
            println!("{}", scene.name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(scene) = SCENES.iter().find(|scene| scene.name == asked) else {
        println!("no such scene; without an argument all are listed");
        return ExitCode::FAILURE;
    };
    let mut meter = Meter::default();
    (scene.play)(&mut meter, scene.size);
    for count in meter.counts() {
        println!("{}/{} {}", scene.name, count.name, count.operations);
    }
    ExitCode::SUCCESS
}
