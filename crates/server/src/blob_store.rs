//! Where the content of artifacts and caches is kept: below the data directory, or in an object store.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use startline_store::blobs::{BlobStore, Directory};

use crate::config::ServerConfig;
use crate::data_dir::DataDir;

/// What `--blobs` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an object store; write it like s3://bucket/prefix");
        let rest = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let prefix = prefix.trim_end_matches('/');
        // No segment that a URL would resolve.
        let is_path =
            prefix.is_empty() || prefix.split('/').all(|part| is_plain(part) && !matches!(part, "" | "." | ".."));
        if bucket.is_empty() || !is_plain(bucket) || !is_path {
            return Err(wrong());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// Refuses what `--blobs` says if it cannot be meant, or if this build cannot do it.
pub(crate) fn check(config: &ServerConfig) -> anyhow::Result<()> {
    let Some(blobs) = &config.blobs else { return Ok(()) };
    let place: Place = blobs.parse().map_err(|error| anyhow::anyhow!("--blobs {error}"))?;
    if let Some(url) = &config.s3_endpoint
        && !(url.starts_with("http://") || url.starts_with("https://"))
    {
        anyhow::bail!("--s3-endpoint `{url}` is not a URL; write it like https://minio.example.com:9000");
    }
    if cfg!(not(feature = "s3")) {
        anyhow::bail!(
            "--blobs s3://{}/{}: this build cannot use object stores; use one that was built with `--features s3`, or \
             leave --blobs out to keep the content of artifacts and caches in the data directory",
            place.bucket,
            place.prefix
        );
    }
    Ok(())
}

/// Opens the blobs; the configuration was checked.
#[cfg_attr(
    not(feature = "s3"),
    expect(unused_variables, reason = "all settings that it reads are those of object stores")
)]
pub(crate) async fn open(config: &ServerConfig, directory: &DataDir) -> anyhow::Result<Arc<dyn BlobStore>> {
    let local = directory.blobs();
    #[cfg(feature = "s3")]
    if let Some(blobs) = &config.blobs {
        let place: Place = blobs.parse().map_err(|error| anyhow::anyhow!("--blobs {error}"))?;
        let opened = startline_store::blobs::s3::S3::open(&local, &s3::options(config, place, directory)).await;
        return Ok(Arc::new(opened.with_context(|| format!("cannot use {blobs} for artifacts and caches"))?));
    }
    let blobs =
        Directory::open(&local).with_context(|| format!("cannot use {} for artifacts and caches", local.display()))?;
    Ok(Arc::new(blobs))
}

#[cfg(feature = "s3")]
mod s3 {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::sync::Arc;

    use startline_store::blobs::s3::{Credentials, Options, Provider};

    use super::Place;
    use crate::config::ServerConfig;
    use crate::data_dir::DataDir;

    pub(super) fn options(config: &ServerConfig, place: Place, directory: &DataDir) -> Options {
        let region = config.s3_region.clone();
        let (endpoint, is_path_style) = match &config.s3_endpoint {
            Some(endpoint) => (endpoint.clone(), true),
            None => (format!("https://s3.{region}.amazonaws.com"), false),
        };
        let provider = match config.s3_credentials_file.clone() {
            // Read anew each time: keys that end are replaced there.
            Some(path) => Provider(Arc::new(move || from_file(&path))),
            None => {
                let known = from_environment();
                Provider(Arc::new(move || known.clone()))
            }
        };
        Options {
            prefix: place.prefix,
            is_path_style,
            ..Options::new(endpoint, region, place.bucket, provider, directory.blobs_owner())
        }
    }

    fn from_environment() -> Result<Credentials, String> {
        let variable = |name: &str| std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty());
        match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key_id), Some(secret_access_key)) => {
                Ok(Credentials { access_key_id, secret_access_key, session_token: variable("AWS_SESSION_TOKEN") })
            }
            _ => Err("there are no credentials; name a file with --s3-credentials-file, or set AWS_ACCESS_KEY_ID and \
                      AWS_SECRET_ACCESS_KEY"
                .to_owned()),
        }
    }

    fn from_file(path: &Path) -> Result<Credentials, String> {
        let failed = |error: std::io::Error| format!("the credentials {} cannot be read ({error})", path.display());
        let mut file = File::open(path).map_err(failed)?;
        // Of the open file: what is checked is what is read.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let shown = path.display();
            return Err(format!(
                "the credentials {shown} can be read by others (mode {mode:04o}); run chmod 600 {shown}"
            ));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        parse(&text).ok_or_else(|| {
            format!(
                "the file {} has no aws_access_key_id and aws_secret_access_key in its section [default]",
                path.display()
            )
        })
    }

    /// The section `default` of a credentials file, or what stands before any section.
    fn parse(text: &str) -> Option<Credentials> {
        let (mut section, mut found) = ("default", [const { None }; 3]);
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim();
            } else if let Some((name, value)) = line.split_once('=').filter(|_| section == "default") {
                let names = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
                if let Some(place) = names.iter().position(|known| *known == name.trim()) {
                    found[place] = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
                }
            }
        }
        let [access_key_id, secret_access_key, session_token] = found;
        Some(Credentials { access_key_id: access_key_id?, secret_access_key: secret_access_key?, session_token })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_default_section_of_a_credentials_file_counts() {
            let text = "# ours\n[other]\naws_access_key_id = no\n\n[default]\naws_access_key_id = AK\naws_secret_access_key=s/e+c=\n";
            let known = parse(text).unwrap();
            assert_eq!((known.access_key_id.as_str(), known.secret_access_key.as_str()), ("AK", "s/e+c="));
            assert!(known.session_token.is_none());
            assert!(parse("[other]\naws_access_key_id = a\naws_secret_access_key = b\n").is_none());
        }

        #[test]
        fn credentials_that_others_can_read_are_refused_with_the_remedy() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("credentials");
            std::fs::write(&path, "aws_access_key_id = a\naws_secret_access_key = b\naws_session_token = c\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(from_file(&path).unwrap_err().contains("chmod 600"));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let known = from_file(&path).unwrap();
            assert_eq!(known.session_token.as_deref(), Some("c"));
            assert!(!format!("{known:?}").contains("\"b\""), "the key is never shown");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_store_is_a_bucket_and_a_prefix() {
        let place = |bucket: &str, prefix: &str| Ok(Place { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        assert_eq!("s3://ci".parse(), place("ci", ""));
        assert_eq!("s3://ci/".parse(), place("ci", ""));
        assert_eq!("s3://ci.example/a/b/".parse(), place("ci.example", "a/b"));
        for wrong in ["ci", "s3:/ci", "s3://", "s3:///a", "s3://ci/a//b", "s3://ci/../b", "s3://c i", "https://ci/a"] {
            assert!(wrong.parse::<Place>().unwrap_err().contains("s3://bucket/prefix"), "{wrong}");
        }
    }

    #[test]
    fn a_build_says_at_the_start_whether_it_can_use_object_stores() {
        let config = ServerConfig { blobs: Some("s3://ci/a".to_owned()), ..ServerConfig::defaults() };
        let said = config.check().err().map(|error| error.to_string());
        assert_eq!(said.is_none(), cfg!(feature = "s3"), "{said:?}");
        assert!(said.is_none_or(|error| error.contains("--features s3")));
        let config = ServerConfig { blobs: Some("/var/blobs".to_owned()), ..ServerConfig::defaults() };
        assert!(config.check().unwrap_err().to_string().contains("--blobs"));
    }
}
