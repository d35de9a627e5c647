//! The audit log and its chain.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use startline_protocol::admin_api::{AuditBeginning, AuditVerification, AuditView};
use startline_protocol::scope::Scope;

use super::Hash;
use super::purge::AuditBegin;

/// Computes a SHA-256.
pub type Digest = fn(&[u8]) -> Hash;

/// What the first line's hash is computed from in the place of a hash before it.
const BEFORE_THE_FIRST: Hash = [0; 32];
/// The action of a line that tells which lines before it were purged.
const PURGE: &str = "audit.purge";

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
/// # The beginning
///
/// Where the first lines were purged because they were old, the first line that is left continues the hash of the last that
/// was purged. Each purge is told by a line `audit.purge`, with `lines` (how many), and `sequence`, `at` and `hash` of the last
/// of them. The latest such line says what the log begins with.
///
/// An exported log, one [`AuditView`] a line, is therefore verified anywhere, in Python by
///
/// ```text
/// lines = [json.loads(line) for line in open("audit.jsonl", encoding="utf-8")]
/// purges = [line["details"] for line in lines if line["action"] == "audit.purge"]
/// previous, sequence = bytes(32), 0
/// if purges and lines[0]["sequence"] > 1:
///     previous, sequence = bytes.fromhex(purges[-1]["hash"]), int(purges[-1]["sequence"])
/// for record in lines:
///     sequence += 1
///     assert record["sequence"] == sequence
///     claimed = record.pop("hash")
///     text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
///     previous = hashlib.sha256(previous + text.encode()).digest()
///     assert previous.hex() == claimed, sequence
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Place in the log, from 1 without gaps; the first ones may have been purged.
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
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(previous);
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

/// The line that tells that these `lines` were purged.
pub(crate) fn purge_line(begin: &AuditBegin, lines: u32, now: Timestamp) -> NewAudit {
    let facts = [
        ("lines", lines.to_string()),
        ("sequence", begin.sequence.to_string()),
        ("at", begin.at.to_string()),
        ("hash", hexadecimal(&begin.hash)),
    ];
    NewAudit {
        at: now,
        actor: "service".to_owned(),
        action: PURGE.to_owned(),
        subject: "audit".to_owned(),
        outcome: "success".to_owned(),
        scope: Scope::Instance,
        request_id: None,
        address: None,
        details: facts.map(|(name, fact)| (name.to_owned(), fact)).into(),
    }
}

/// Follows the chain, one line after the other.
pub(crate) struct Verifier {
    digest: Digest,
    begin: Option<AuditBegin>,
    last: Option<(i64, Hash)>,
    /// What the latest line that tells of a purge says.
    told: Option<BTreeMap<String, String>>,
}

impl Verifier {
    /// `begin` is the last line that was purged.
    pub(crate) fn new(digest: Digest, begin: Option<AuditBegin>) -> Self {
        Self { digest, begin, last: begin.map(|begin| (begin.sequence, begin.hash)), told: None }
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
        if line.entry.action == PURGE {
            self.told = Some(line.entry.details.clone());
        }
        Ok(())
    }

    /// Checks that the log begins where its lines say.
    fn check_begin(&self) -> Result<(), String> {
        let begun = self.begin.map(|begin| purge_line(&begin, 0, begin.at).details);
        let facts =
            |details: &BTreeMap<String, String>| ["sequence", "at", "hash"].map(|fact| details.get(fact).cloned());
        match (&begun, &self.told) {
            (begun, told) if begun.as_ref().map(facts) == told.as_ref().map(facts) => Ok(()),
            (_, None) => Err(format!("the log begins behind line {}, but no line tells of a purge", self.purged())),
            (_, Some(told)) => Err(format!(
                "the log begins behind line {}, but its lines tell of a purge up to line {}",
                self.purged(),
                told.get("sequence").map_or("?", String::as_str)
            )),
        }
    }

    /// The place of the last line that was purged.
    fn purged(&self) -> i64 {
        self.begin.map_or(0, |begin| begin.sequence)
    }

    /// What was found; `broken` is what is wrong with the line behind those that were checked.
    pub(crate) fn finish(self, broken: Option<String>) -> AuditVerification {
        let broken = broken.or_else(|| self.check_begin().err());
        let begin = self.begin.map(|begin| AuditBeginning {
            sequence: begin.sequence,
            at: begin.at,
            hash: hexadecimal(&begin.hash),
        });
        AuditVerification {
            valid: broken.is_none(),
            records: self.last.map_or(0, |(sequence, _)| sequence) - self.purged(),
            head: self.last.filter(|_| broken.is_none()).map(|(_, hash)| hexadecimal(&hash)),
            broken,
            begin,
        }
    }
}

fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
