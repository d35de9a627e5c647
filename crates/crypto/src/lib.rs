//! The few cryptographic operations that Startline needs, over one library (aws-lc-rs).
//!
//! The room owns how secrets look: the text of bearer tokens and what is stored of them ([`token`]), the JWT of a job
//! ([`job_token`]) and of other bearers that need no look-up ([`purpose_token`]), id tokens ([`id_token`]), signed
//! addresses ([`signed_url`]), the keys of official runners and what they sign ([`runner_key`],
//! [`client_assertion`]), the envelope of secrets at rest ([`seal`]) and the files that keys live in ([`key_file`]). It
//! knows no database, no request and no clock: `now` is an argument. It does not decide who may do what.

pub mod client_assertion;
pub mod id_token;
pub mod job_token;
pub mod key_file;
pub mod purpose_token;
pub mod random;
pub mod runner_key;
pub mod seal;
pub mod signed_url;
pub mod token;

mod der;
mod digest;
mod hs256;
mod provider;

pub use client_assertion::ReplayCache;
pub use digest::{sha256, sha256_of};
pub use id_token::IdTokenKey;
pub use job_token::{Claims, JobTokenError, JobTokenKey};
pub use key_file::KeyFileError;
pub use provider::install_provider;
pub use purpose_token::{Purpose, PurposeKey, PurposeToken, PurposeTokenError};
pub use random::random_bytes;
pub use runner_key::{KeyPool, RunnerKeyError, RunnerKeyPair, RunnerPublicKey};
pub use seal::{KeyId, KeyRing, SealError, SealingKey};
pub use signed_url::{UrlAccess, UrlError, UrlKey};
pub use token::{TokenHash, is_well_formed, new_api_token, new_registration_token, new_runner_token};
