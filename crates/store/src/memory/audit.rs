//! The audit log.

use startline_protocol::admin_api::AuditVerification;

use super::State;
use crate::record::{AuditRecord, Digest, NewAudit, Verifier};

impl State {
    pub(super) fn append_audit(&mut self, entry: NewAudit, digest: Digest) -> AuditRecord {
        let purged = self.audit_begin.map(|begin| (begin.sequence, begin.hash));
        let record = entry.behind(self.audit.last().map(|last| (last.sequence, last.hash)).or(purged), digest);
        self.audit.push(record.clone());
        record
    }

    pub(super) fn verify_audit(&self, digest: Digest) -> AuditVerification {
        let mut verifier = Verifier::new(digest, self.audit_begin);
        let broken = self.audit.iter().find_map(|line| verifier.check(line).err());
        verifier.finish(broken)
    }
}
