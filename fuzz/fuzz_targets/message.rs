//! The job message: what was read is written and read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use startline_protocol::job_message::JobMessage;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = serde_json::from_slice::<JobMessage>(bytes) else { return };
    let written = serde_json::to_vec(&message).expect("a message is JSON");
    let again: JobMessage = serde_json::from_slice(&written).expect("what was written is a message");
    assert_eq!(message, again);
});
