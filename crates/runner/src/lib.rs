//! The runner daemon: register, poll, one worker per job, renew, cancel, complete.
