//! What a job's token may do, as the `permissions` of its workflow say.

use serde_json::Value;
use startline_protocol::job_message::JobMessage;

use crate::message::PERMISSIONS;

/// What the workflow grants, where it says anything: scopes that are `none` are not in it.
fn granted(message: &JobMessage) -> Option<Value> {
    message.variable(PERMISSIONS).map(|text| serde_json::from_str(text).unwrap_or_default())
}

/// Whether a job may have id tokens: its workflow asks for them, and its code is trusted.
pub(crate) fn may_have_tokens(message: &JobMessage, trusted: bool) -> bool {
    trusted && granted(message).is_some_and(|granted| granted["IdToken"] == "write")
}

/// Whether a job may read its repository: its workflow says so, or says nothing of permissions.
pub(super) fn may_read_contents(message: &JobMessage) -> bool {
    granted(message).is_none_or(|granted| granted["Contents"].is_string())
}
