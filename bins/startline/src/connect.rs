//! How a command reaches a service.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use startline_client::{ApiClient, Options, Proxies, Transport};
use startline_protocol::token::ApiToken;

/// Where the service is and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connect {
    /// The service's address
    #[arg(long, env = "STARTLINE_URL", default_value = "http://127.0.0.1:7070", value_name = "URL")]
    pub url: String,
    /// API token (`slp_…`), printed by `startline server` at its first start
    ///
    /// Prefer `STARTLINE_TOKEN` or --token-file: a flag can be read by every user of the machine.
    #[arg(long, env = "STARTLINE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// File that holds the API token
    #[arg(long, env = "STARTLINE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub network: Network,
}

/// How connections are made.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Network {
    /// PEM file with a further certificate authority to trust
    #[arg(long, env = "STARTLINE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    #[arg(long, env = "HTTP_PROXY", hide = true)]
    http_proxy: Option<String>,
    #[arg(long, env = "HTTPS_PROXY", hide = true)]
    https_proxy: Option<String>,
    #[arg(long, env = "NO_PROXY", hide = true)]
    no_proxy: Option<String>,
}

impl Network {
    pub(crate) fn options(&self) -> Options {
        let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        Options {
            extra_ca: self.ca_file.clone(),
            proxies: Proxies {
                http: given(&self.http_proxy),
                https: given(&self.https_proxy),
                none: given(&self.no_proxy),
            },
            ..Options::default()
        }
    }

    pub(crate) fn transport(&self) -> anyhow::Result<Transport> {
        Ok(Transport::new(&self.options())?)
    }
}

impl Connect {
    pub(crate) fn token(&self) -> anyhow::Result<ApiToken> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the token file {}", file.display()))?,
            (None, None) => bail!(
                "no API token; set STARTLINE_TOKEN to the `slp_…` token that `startline server` printed at its first \
                 start, or give --token-file"
            ),
        };
        ApiToken::parse(text.trim()).context("the API token is malformed")
    }

    pub(crate) fn client(&self) -> anyhow::Result<ApiClient> {
        Ok(ApiClient::new(self.network.transport()?, &self.url, self.token()?)?)
    }
}
