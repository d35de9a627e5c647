//! Executes one job message: contexts, steps, commands, logs.
