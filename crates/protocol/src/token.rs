//! Bearer tokens: one type a kind, so that a handler cannot take one for another.
//!
//! The text of a token leaves these types only through [`ApiToken::expose`] and its siblings; `Debug` prints the
//! prefix alone. Serialisation writes the text, because the wire must carry it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// The kinds of bearer that the service knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Administers within its scope (`slp_`).
    Api,
    /// Registers runners and does nothing else (`slr_`).
    Registration,
    /// Speaks for one registered runner (`slt_`).
    Runner,
    /// Speaks for one attempt of one job (a JWT).
    Job,
}

impl TokenKind {
    /// The kind that `bearer` claims to be by its shape; nothing is verified.
    #[must_use]
    pub fn of(bearer: &str) -> Option<Self> {
        if bearer.starts_with(ApiToken::PREFIX) {
            Some(Self::Api)
        } else if bearer.starts_with(RegistrationToken::PREFIX) {
            Some(Self::Registration)
        } else if bearer.starts_with(RunnerToken::PREFIX) {
            Some(Self::Runner)
        } else if bearer.split('.').count() == 3 {
            Some(Self::Job)
        } else {
            None
        }
    }

    /// The name used in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "API token",
            Self::Registration => "registration token",
            Self::Runner => "runner token",
            Self::Job => "job token",
        }
    }
}

impl TokenKind {
    /// The name with its article.
    #[must_use]
    pub const fn name_with_article(self) -> &'static str {
        match self {
            Self::Api => "an API token",
            Self::Registration => "a registration token",
            Self::Runner => "a runner token",
            Self::Job => "a job token",
        }
    }
}

/// The text is not a token of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {} (expected text that starts with `{prefix}`)", kind.name_with_article())]
pub struct WrongKind {
    /// The kind that was expected.
    pub kind: TokenKind,
    /// The prefix of that kind.
    pub prefix: &'static str,
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $kind:expr, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Serialize)]
        #[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
        #[cfg_attr(feature = "openapi", schemars(extend("pattern" = concat!("^", $prefix, ".+"))))]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What every token of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Takes `text` for a token of this kind.
            ///
            /// # Errors
            /// When it does not start with the kind's prefix.
            pub fn parse(text: impl Into<String>) -> Result<Self, WrongKind> {
                let text = text.into();
                if text.starts_with($prefix) && text.len() > $prefix.len() {
                    Ok(Self(text))
                } else {
                    Err(WrongKind { kind: $kind, prefix: $prefix })
                }
            }

            /// The secret text.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(", $prefix, "…)"))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

token!(
    /// Administers within its scope.
    ApiToken, TokenKind::Api, "slp_"
);
token!(
    /// Registers runners, nothing else.
    RegistrationToken, TokenKind::Registration, "slr_"
);
token!(
    /// Speaks for one registered runner.
    RunnerToken, TokenKind::Runner, "slt_"
);
token!(
    /// Speaks for one attempt of one job; a JWT, whose header always starts like this.
    JobToken, TokenKind::Job, "eyJ"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_one_kind_is_not_a_token_of_another() {
        assert!(ApiToken::parse("slp_abc").is_ok());
        assert!(RunnerToken::parse("slp_abc").is_err());
        assert!(serde_json::from_str::<RunnerToken>("\"slr_abc\"").is_err());
        assert_eq!(TokenKind::of("slt_x"), Some(TokenKind::Runner));
        assert_eq!(TokenKind::of("a.b.c"), Some(TokenKind::Job));
        assert_eq!(TokenKind::of("hello"), None);
    }

    #[test]
    fn debug_does_not_print_the_secret() {
        let token = ApiToken::parse("slp_verysecret").unwrap();
        assert!(!format!("{token:?}").contains("verysecret"));
    }
}
