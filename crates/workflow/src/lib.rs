//! Workflow YAML to runs and jobs: spanned tree, model, expressions, matrix, needs, diagnostics.
