//! Who runs what next: requirement classes, queue order, offers, leases, attempts.
