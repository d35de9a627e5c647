//! The audit log and its chain.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use startline_protocol::admin_api::{AuditVerification, AuditView};
use startline_protocol::scope::Scope;

use super::Hash;

/// Computes a SHA-256.
pub type Digest = fn(&[u8]) -> Hash;

/// What the first line's hash is computed from in the place of a hash before it.
const BEFORE_THE_FIRST: Hash = [0; 32];

/// Something that happened, to be written into the audit log. Tokens and values of secrets have no place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAudit {
    /// When.
    pub at: Timestamp,
    /// Who: a kind with an id and, in parentheses behind a blank, a name: `api_token:3 (admin)`.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// How it ended.
    pub outcome: String,
    /// The scope concerned.
    pub scope: Scope,
    /// The request.
    pub request_id: Option<String>,
    /// The caller's address.
    pub address: Option<String>,
    /// Further facts.
    pub details: BTreeMap<String, String>,
}

/// A line of the audit log.
///
/// # The chain
///
/// `hash` is the SHA-256 of the 32 bytes of the hash of the line before (32 zero bytes before the first line) followed
/// by the UTF-8 bytes of the line's canonical JSON: the object that [`AuditView`] is in JSON, without its member `hash`
/// and without those members that are absent there (`request_id` and `address` when there is none, `details` when it is
/// empty), members sorted by the code points of their names at both levels, no blanks, and in strings only `"`, `\\` and
/// control characters below U+0020 escaped, as `\"`, `\\\\`, `\b`, `\t`, `\n`, `\f`, `\r` or `\u00` and two lower-case
/// hexadecimal digits. So for example:
///
/// ```text
/// {"action":"token.create","actor":"service","at":"2026-01-02T03:04:05.6Z","outcome":"success","scope":"instance","sequence":1,"subject":"api_token:1"}
/// ```
///
/// An exported log, one [`AuditView`] a line, is therefore verified anywhere, in Python by
///
/// ```text
/// previous = bytes(32)
/// for line in open("audit.jsonl", encoding="utf-8"):
///     record = json.loads(line)
///     claimed = record.pop("hash")
///     text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
///     previous = hashlib.sha256(previous + text.encode()).digest()
///     assert previous.hex() == claimed, record["sequence"]
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Place in the log, from 1 without gaps.
    pub sequence: i64,
    /// What happened.
    pub entry: NewAudit,
    /// The chain.
    pub hash: Hash,
}

impl From<AuditRecord> for AuditView {
    fn from(AuditRecord { sequence, entry, hash }: AuditRecord) -> Self {
        let NewAudit { at, actor, action, subject, outcome, scope, request_id, address, details } = entry;
        let hash = hexadecimal(&hash);
        Self { sequence, at, actor, action, subject, outcome, scope, request_id, address, details, hash }
    }
}

/// A line as it goes into its hash. The order of the members is part of the format.
#[derive(Serialize)]
struct Canonical<'a> {
    action: &'a str,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    at: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    details: &'a BTreeMap<String, String>,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    scope: &'a Scope,
    sequence: i64,
    subject: &'a str,
}

impl NewAudit {
    /// The hash of this line at its place.
    fn chained(&self, digest: Digest, previous: &Hash, sequence: i64) -> Hash {
        let canonical = Canonical {
            action: &self.action,
            actor: &self.actor,
            address: self.address.as_deref(),
            at: self.at,
            details: &self.details,
            outcome: &self.outcome,
            request_id: self.request_id.as_deref(),
            scope: &self.scope,
            sequence,
            subject: &self.subject,
        };
        let mut bytes = previous.to_vec();
        // Writing strings and numbers into memory does not fail; if it did, the line would not verify.
        drop(serde_json::to_writer(&mut bytes, &canonical));
        digest(&bytes)
    }

    /// The line that this becomes behind `last`.
    pub(crate) fn behind(mut self, last: Option<(i64, Hash)>, digest: Digest) -> AuditRecord {
        self.at = super::kept(self.at);
        let (sequence, previous) = last.unwrap_or((0, BEFORE_THE_FIRST));
        let sequence = sequence + 1;
        let hash = self.chained(digest, &previous, sequence);
        AuditRecord { sequence, entry: self, hash }
    }
}

/// Which lines of the audit log are wanted; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// What the action begins with: `runner.` finds `runner.register`.
    pub action: Option<String>,
    /// The actor, with or without the name in parentheses: `api_token:3` finds `api_token:3 (admin)`.
    pub actor: Option<String>,
    /// The scope that covers the line's.
    pub scope: Option<Scope>,
}

impl AuditFilter {
    /// Whether `entry` is wanted.
    pub(crate) fn admits(&self, entry: &NewAudit) -> bool {
        let is_by = |actor: &String| {
            entry.actor.strip_prefix(actor.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        };
        self.action.as_ref().is_none_or(|action| entry.action.starts_with(action.as_str()))
            && self.actor.as_ref().is_none_or(is_by)
            && self.scope.as_ref().is_none_or(|scope| scope.covers(&entry.scope))
    }
}

/// Follows the chain, one line after the other.
pub(crate) struct Verifier {
    digest: Digest,
    last: Option<(i64, Hash)>,
}

impl Verifier {
    pub(crate) const fn new(digest: Digest) -> Self {
        Self { digest, last: None }
    }

    /// Checks the next line; the error says what is wrong with it.
    pub(crate) fn check(&mut self, line: &AuditRecord) -> Result<(), String> {
        let (sequence, previous) = self.last.unwrap_or((0, BEFORE_THE_FIRST));
        if line.sequence != sequence + 1 {
            return Err(format!("line {} stands where line {} is due", line.sequence, sequence + 1));
        }
        if line.hash != line.entry.chained(self.digest, &previous, line.sequence) {
            return Err(format!("line {} or the one before it was changed: the hash does not fit", line.sequence));
        }
        self.last = Some((line.sequence, line.hash));
        Ok(())
    }

    /// What was found; `broken` is what is wrong with the line behind those that were checked.
    pub(crate) fn finish(self, broken: Option<String>) -> AuditVerification {
        AuditVerification {
            valid: broken.is_none(),
            records: self.last.map_or(0, |(sequence, _)| sequence),
            head: self.last.filter(|_| broken.is_none()).map(|(_, hash)| hexadecimal(&hash)),
            broken,
        }
    }
}

fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
