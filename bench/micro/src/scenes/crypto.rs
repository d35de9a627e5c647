//! Bearers, which each request has, and the secrets of a job.

use jiff::{SignedDuration, Timestamp};
use startline_crypto::token::hash;
use startline_crypto::{Claims, JobTokenKey, SealingKey};
use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::token::TokenKind;
use uuid::Uuid;

use crate::meter::Meter;

const RUNNER_TOKEN: &str = "slt_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN";

pub(super) fn play(meter: &mut Meter, _: u32) {
    let now: Timestamp = "2026-05-01T10:00:00Z".parse().expect("a time");
    let key = JobTokenKey::from_bytes(&[7; 32]);
    let claims = Claims {
        job: JobId(123_456),
        run: RunId(65_432),
        attempt: 1,
        epoch: Epoch(3),
        issued_at: now,
        expires_at: now + SignedDuration::from_hours(30),
        id: Uuid::from_u128(0x6f0e_7c0a_1c58_4b0e_8f0f_6a4d_0f7f_9a01),
        plan_id: Uuid::from_u128(0x3b7f_6b52_5d0c_4b3e_9a54_0f3b_1a6d_2c11),
        job_guid: Uuid::from_u128(0x9b2d_eb4d_3b7d_4bad_9bdd_2b0d_7b3d_cb6d),
    };
    let token = key.mint(&claims);
    assert_eq!(key.verify(token.expose(), now).as_ref(), Ok(&claims));
    meter.repeat("mint a job token", 64, || key.mint(&claims));
    meter.repeat("verify a job token", 64, || key.verify(token.expose(), now));
    let forged = format!("{}A", &token.expose()[..token.expose().len() - 1]);
    assert!(key.verify(&forged, now).is_err() || forged == token.expose());

    assert_eq!(TokenKind::of(RUNNER_TOKEN), Some(TokenKind::Runner));
    meter.repeat("hash a runner token", 64, || hash(RUNNER_TOKEN));

    let sealing = SealingKey::from_bytes(&[9; 32]);
    let secrets = "x".repeat(1024);
    let envelope = sealing.seal(secrets.as_bytes(), b"plan");
    assert_eq!(sealing.open(&envelope, b"plan").as_deref().ok(), Some(secrets.as_bytes()));
    meter.repeat("open an envelope of 1 KiB", 64, || sealing.open(&envelope, b"plan"));
}
