//! Typed clients of the service over one transport seam.
