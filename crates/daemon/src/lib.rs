//! What every long-running process does: logs, metrics, accept loop, drain.
