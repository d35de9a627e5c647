//! What a job's token may do, as the `permissions` of its workflow say.

use serde_json::Value;
use startline_protocol::job_message::JobMessage;

use crate::message::PERMISSIONS;

/// What the workflow grants, by the variable [`PERMISSIONS`]: scopes that are `none` are not in it.
fn granted(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Whether a job may have id tokens: its workflow asks for them in [`PERMISSIONS`], and its code is trusted.
pub(crate) fn may_have_tokens(permissions: Option<&str>, trusted: bool) -> bool {
    trusted && permissions.is_some_and(|text| granted(text)["IdToken"] == "write")
}

/// Whether a job may read its repository: its workflow says so, or says nothing of permissions.
pub(super) fn may_read_contents(message: &JobMessage) -> bool {
    message.variable(PERMISSIONS).is_none_or(|text| granted(text)["Contents"].is_string())
}
