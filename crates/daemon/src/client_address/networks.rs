use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

/// Networks as a setting: `10.0.0.0/8, 192.0.2.1` on the command line, a list of strings in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Networks(pub Vec<IpNet>);

/// The text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a network; write addresses or address/prefix, like 10.0.0.0/8 or 2001:db8::/32")]
pub struct NotANetwork {
    text: String,
}

fn network(text: &str) -> Result<IpNet, NotANetwork> {
    let alone = text.parse::<IpAddr>().map(IpNet::from);
    alone.or_else(|_| text.parse()).map_err(|_| NotANetwork { text: text.to_owned() })
}

impl FromStr for Networks {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|text| network(text.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| network(text)).collect::<Result<_, _>>().map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl IntoIterator for Networks {
    type Item = IpNet;
    type IntoIter = std::vec::IntoIter<IpNet>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct File {
        trusted: Networks,
    }

    #[test]
    fn the_forms_of_flag_and_file_are_the_same_networks() {
        let flag: Networks = "10.0.0.0/8, 192.0.2.1,2001:db8::/32".parse().unwrap();
        let file: File = toml::from_str("trusted = ['10.0.0.0/8', '192.0.2.1', '2001:db8::/32']").unwrap();
        assert_eq!(flag, file.trusted);
        assert_eq!(flag.to_string(), "10.0.0.0/8,192.0.2.1/32,2001:db8::/32");
        let written: File = toml::from_str(&toml::to_string(&file).unwrap()).unwrap();
        assert_eq!(written.trusted, flag);
        assert_eq!("".parse(), Ok(Networks::default()));
    }

    #[test]
    fn what_is_not_a_network_is_named() {
        for (text, named) in
            [("10.0.0.0/33", "10.0.0.0/33"), ("10.0.0.0/8,", ""), ("proxy.example.com", "proxy.example.com")]
        {
            let error = text.parse::<Networks>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{named}` is not a network")), "{error}");
        }
        assert!(toml::from_str::<File>("trusted = ['x']").unwrap_err().to_string().contains("`x` is not a network"));
    }
}
