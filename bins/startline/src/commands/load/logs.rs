//! `startline load logs`: jobs that write logs, as fast as they are taken, and what is there afterwards.

use std::process::ExitCode;
use std::time::Duration;

use anstream::eprintln;
use anyhow::{Context, bail, ensure};
use bytes::{Buf as _, Bytes};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::leases::{Held, complete, hold};
use super::link::{Call, Link};
use super::report::{Errors, Latency, Report, millis, per_second, round};
use super::scene::{Scene, check_descriptors};
use super::usage::Moment;
use crate::cli::LogsLoadArgs;

/// The largest piece that our worker sends.
const PIECE: usize = 512 * 1024;
/// Digits of the number that makes each piece another one.
const DIGITS: usize = 12;

pub(super) async fn execute(args: LogsLoadArgs) -> anyhow::Result<ExitCode> {
    check_descriptors(args.streams, "fewer --streams")?;
    let scene = Scene::open(&args.scene, args.streams, false).await?;
    let runners = scene.register(args.streams).await?;
    let held = hold(&scene, &scene.label, &runners).await?;
    scene.await_quiet().await?;
    let links = scene.target.connect_many(&scene.tasks, runners.len(), 1).await?;

    let pieces = args.bytes.bytes().div_ceil(PIECE as u64 * u64::from(args.streams)).max(1);
    eprintln!("sending {} MiB", (pieces * PIECE as u64 * u64::from(args.streams)) >> 20);
    let before = Moment::now(&scene.pid)?;
    let until = before.at() + Duration::from_secs(args.seconds);
    let mut sending = JoinSet::new();
    for (held, link) in held.iter().zip(links) {
        sending.spawn(send(held.clone(), link, pieces, until));
    }
    let mut errors = Errors::default();
    let mut latency = Latency::default();
    let mut written: Vec<(Held, u64)> = Vec::new();
    while let Some(stream) = sending.join_next().await {
        match stream? {
            Ok((of_one, held)) => {
                latency.add(&of_one);
                written.push((held, of_one.count()));
            }
            Err(error) => errors.add(format!("{error:#}")),
        }
    }
    let after = Moment::now(&scene.pid);
    let time = before.at().elapsed();
    let held: Vec<Held> = written.iter().map(|(held, _)| held.clone()).collect();
    let total = latency.count() * PIECE as u64;
    let completing = Instant::now();
    let completed = complete(&scene, &held).await;
    let completing = completing.elapsed();

    eprintln!("reading it back");
    let reading = Instant::now();
    let mut read = 0;
    for (held, pieces) in &written {
        match read_back(&scene, held, *pieces).await {
            Ok(length) => read += length,
            Err(error) => errors.add(format!("the log of job {}: {error:#}", held.job)),
        }
    }
    let reading = reading.elapsed();

    let mut report = Report::new(
        "logs",
        json!({
            "streams": args.streams, "bytes": total, "seconds": args.seconds, "piece_bytes": PIECE, "synchronous": args.scene.synchronous(),
        }),
        time,
        latency.count(),
    );
    report.errors = errors;
    if let Err(error) = completed {
        report.errors.add(format!("{error:#}"));
    }
    report.latency_us = latency.summary();
    report.tell("megabytes_per_second", round(per_second(total, time) / 1e6));
    report.tell("completed_ms", millis(completing));
    report.tell("read_back_bytes", read);
    report.tell("read_back_megabytes_per_second", round(per_second(read, reading) / 1e6));
    report.cost(&before, after, report.count);
    scene.end(&runners, &mut report).await;
    report.close(args.scene.json)
}

/// Whole lines as a build writes them, all of one piece together; its number stands in its first line.
fn piece(number: u64) -> Vec<u8> {
    let mut text = format!("2026-11-21T20:00:00.0000000Z piece {number:0width$}\n", width = DIGITS).into_bytes();
    let mut line = 0_u32;
    loop {
        let next = format!(
            "2026-11-21T20:00:{:02}.{:07}Z    Compiling crate-{line} v1.{}.0 (/home/runner/work/demo/crates/{line})\n",
            line / 100 % 60,
            line * 977 % 10_000_000,
            line % 50
        );
        let left = PIECE - text.len();
        if next.len() + 40 > left {
            // The last line fills it up.
            text.extend_from_slice(b"2026-11-21T20:00:59.0000000Z ");
            text.resize(PIECE - 1, b'.');
            text.push(b'\n');
            return text;
        }
        text.extend_from_slice(next.as_bytes());
        line += 1;
    }
}

/// Makes a piece another one, in place.
fn renumber(piece: &mut [u8], number: u64) {
    let from = "2026-11-21T20:00:00.0000000Z piece ".len();
    piece[from..from + DIGITS].copy_from_slice(format!("{number:0width$}", width = DIGITS).as_bytes());
}

async fn send(held: Held, mut link: Link, pieces: u64, until: Instant) -> anyhow::Result<(Latency, Held)> {
    let mut latency = Latency::default();
    let path = held.path("logs");
    let mut body = piece(0);
    for number in 0..pieces {
        renumber(&mut body, number);
        let range_from = Some(number * PIECE as u64);
        let sent = Instant::now();
        if sent >= until {
            break;
        }
        let call = Call { method: "PATCH", path: &path, bearer: &held.token, body: &body, range_from };
        let answer = link.send(call).await?;
        answer.require(StatusCode::OK).with_context(|| format!("piece {number} of job {} was not taken", held.job))?;
        latency.record(sent.elapsed());
    }
    Ok((latency, held))
}

/// Compares what the service has with what was sent, byte by byte, and gives its length.
async fn read_back(scene: &Scene, held: &Held, pieces: u64) -> anyhow::Result<u64> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(scene.target.open().await?)).await?;
    scene.tasks.spawn(async move { drop(connection.await) });
    let request = Request::get(format!("/api/v1/jobs/{}/logs", held.job))
        .header("host", scene.target.authority())
        .header("authorization", format!("Bearer {}", scene.token))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == StatusCode::OK, "answered {}", response.status());
    let mut body = response.into_body();
    let mut expected = piece(0);
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else { continue };
        while data.has_remaining() {
            let number = length / PIECE as u64;
            let at = usize::try_from(length % PIECE as u64)?;
            if at == 0 {
                renumber(&mut expected, number);
            }
            let part = data.len().min(PIECE - at);
            if data[..part] != expected[at..at + part] {
                bail!("other bytes than were sent in piece {number}");
            }
            data.advance(part);
            length += part as u64;
        }
    }
    ensure!(length == pieces * PIECE as u64, "{length} bytes instead of {}", pieces * PIECE as u64);
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_whole_lines_and_no_two_are_the_same() {
        let mut one = piece(7);
        assert_eq!(one.len(), PIECE);
        let text = String::from_utf8(one.clone()).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() > 4000);
        assert!(text.lines().all(|line| line.as_bytes()[27] == b'Z' && line.as_bytes()[28] == b' '));
        renumber(&mut one, 8);
        assert_eq!(one, piece(8));
        assert_ne!(one, text.into_bytes());
    }
}
