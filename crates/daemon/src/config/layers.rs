/// Declares settings, and makes a layer and a configuration of them.
///
/// ```
/// use std::net::SocketAddr;
///
/// startline_daemon::config! {
///     /// How the server runs.
///     pub struct ServerConfig, layer ServerLayer {
///         /// Where the API listens.
///         listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), env "STARTLINE_LISTEN";
///         /// The address that runners reach the API at.
///         url: String, env "STARTLINE_URL";
///         /// How chatty the log is.
///         log: String = "info".to_owned(), env "STARTLINE_LOG", arg(value_name = "FILTER");
///     }
/// }
///
/// let flags = ServerLayer { log: Some("debug".to_owned()), ..ServerLayer::default() };
/// let config = ServerConfig::resolve(flags, None).config;
/// assert_eq!((config.listen.port(), config.url, config.log.as_str()), (8080, None, "debug"));
/// ```
///
/// A setting with a default is a plain field of the configuration, one without is an `Option`. In the layer all are
/// `Option`s; it derives `clap::Args` (to flatten into a command; flags are `--kebab-case`) and `serde::Deserialize`
/// (keys are `snake_case`, unknown ones are errors), so the caller's crate needs both libraries. Types need
/// `Clone`, `Debug`, `Serialize`, `Deserialize` and what clap's `value_parser!` asks for (`FromStr` or `ValueEnum`).
#[macro_export]
macro_rules! config {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $config:ident, layer $layer:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty $(= $default:expr)?, env $env:literal $(, arg($($arg:tt)*))?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        $vis struct $config {
            $($(#[doc = $doc])+ pub $field: $crate::__config_field!(type $type $(= $default)?),)+
        }

        #[doc = concat!("A layer of the settings of [`", stringify!($config), "`].")]
        #[derive(Clone, Debug, Default, ::clap::Args, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $vis struct $layer {
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $env, hide_env_values = true $(, $($arg)*)?)]
                // Bare: clap knows `Option` by this spelling alone.
                pub $field: Option<$type>,
            )+
        }

        impl $config {
            /// Merges the layers: what `flags` has, else what `file` has, else the defaults.
            #[must_use]
            $vis fn resolve(
                flags: $layer,
                file: ::core::option::Option<$crate::config::FileLayer<$layer>>,
            ) -> $crate::config::Resolved<Self> {
                let (path, file) = match file {
                    Some(file) => (file.path, file.layer),
                    None => (::std::path::PathBuf::new(), $layer::default()),
                };
                let mut settings = ::std::vec::Vec::new();
                $(
                    let source = if flags.$field.is_some() {
                        $crate::config::Source::FlagOrEnvironment($env)
                    } else if file.$field.is_some() {
                        $crate::config::Source::File(path.clone())
                    } else {
                        $crate::config::Source::Default
                    };
                    let $field = $crate::__config_field!(value flags.$field.or(file.$field) $(, $default)?);
                    settings.push($crate::config::Setting::new(
                        stringify!($field),
                        concat!($($doc, "\n"),+),
                        $crate::__config_field!(shown $field $(, $default)?),
                        source,
                    ));
                )+
                $crate::config::Resolved { config: Self { $($field),+ }, settings }
            }
        }
    };
}

/// What differs between settings with and without a default.
#[doc(hidden)]
#[macro_export]
macro_rules! __config_field {
    (type $type:ty) => { ::core::option::Option<$type> };
    (type $type:ty = $default:expr) => { $type };
    (value $value:expr) => { $value };
    (value $value:expr, $default:expr) => { $value.unwrap_or_else(|| $default) };
    (shown $field:ident) => { $field.clone() };
    (shown $field:ident, $default:expr) => { Some($field.clone()) };
}
