use std::net::SocketAddr;

use clap::Parser;

use super::*;

crate::config! {
    /// Settings for the tests.
    struct TestConfig, layer TestLayer {
        /// Where it listens.
        /// On this machine only, usually.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), env "STARTLINE_TEST_CONFIG_LISTEN";
        /// How long a poll lasts.
        poll_timeout: Period = Period::from_secs(50), env "STARTLINE_TEST_CONFIG_POLL_TIMEOUT";
        /// Its name.
        name: String, env "STARTLINE_TEST_CONFIG_NAME", arg(value_name = "NAME");
        /// Whether it is verbose.
        verbose: bool = false, env "STARTLINE_TEST_CONFIG_VERBOSE", arg(num_args = 0..=1, default_missing_value = "true");
    }
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    layer: TestLayer,
}

fn flags(arguments: &[&str]) -> TestLayer {
    Command::try_parse_from([&["test"], arguments].concat()).unwrap().layer
}

fn file(text: &str) -> Result<FileLayer<TestLayer>, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    fs::write(&path, text).unwrap();
    read(path)
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = file("poll_timeout = '5s'\nname = 'of the file'\n").unwrap();
    let path = file.path.clone();
    let resolved = TestConfig::resolve(flags(&["--name", "of the flag"]), Some(file));
    assert_eq!(resolved.config.name.as_deref(), Some("of the flag"));
    assert_eq!(resolved.config.poll_timeout, Period::from_secs(5));
    assert_eq!(resolved.config.listen.port(), 8080);
    let sources: Vec<Source> = resolved.settings.into_iter().map(|setting| setting.source).collect();
    assert_eq!(
        sources,
        [Source::Default, Source::File(path), Source::FlagOrEnvironment("STARTLINE_TEST_CONFIG_NAME"), Source::Default]
    );
}

#[test]
fn what_is_not_set_anywhere_has_its_default_or_nothing() {
    let config = TestConfig::resolve(flags(&[]), None).config;
    assert_eq!((config.name, config.poll_timeout, config.verbose), (None, Period::from_secs(50), false));
}

#[test]
fn a_switch_needs_no_value() {
    assert_eq!(flags(&["--verbose"]).verbose, Some(true));
    assert_eq!(flags(&["--verbose=false"]).verbose, Some(false));
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_known_keys() {
    let text = file("name = 'x'\nlisten_port = 1\n").unwrap_err().to_string();
    assert!(text.starts_with("configuration file /") && text.contains("test.toml"), "{text}");
    for part in ["line 2, column 1", "unknown field `listen_port`", "`listen`", "`poll_timeout`", "`name`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_bad_value_is_named_with_its_line() {
    for (toml, line, reason) in [
        ("\npoll_timeout = '5'\n", 2, "`5` is not a duration"),
        ("listen = 'here'\n", 1, "socket address"),
        ("name = \n", 1, "value"),
        ("verbose = true\nverbose = true\n", 2, "duplicate key"),
    ] {
        let text = file(toml).unwrap_err().to_string();
        assert!(text.contains(&format!("line {line}, ")) && text.contains(reason), "{toml}: {text}");
    }
}

#[test]
fn a_missing_file_is_an_error_only_if_it_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent.toml");
    assert!(read_if_exists::<TestLayer>(&path).unwrap().is_none());
    let text = read::<TestLayer>(&path).unwrap_err().to_string();
    assert!(text.contains("absent.toml: No such file"), "{text}");
}

#[test]
fn the_printed_configuration_tells_sources_and_can_be_read_again() {
    let resolved = TestConfig::resolve(flags(&["--poll-timeout", "90s"]), None);
    let expected = "\
# Where it listens.
# On this machine only, usually.
listen = \"127.0.0.1:8080\" # default

# How long a poll lasts.
poll_timeout = \"1m30s\" # from the command line or STARTLINE_TEST_CONFIG_POLL_TIMEOUT

# Its name.
# name = … # not set

# Whether it is verbose.
verbose = false # default
";
    assert_eq!(resolved.to_toml(), expected);
    let again = TestConfig::resolve(TestLayer::default(), Some(file(expected).unwrap())).config;
    assert_eq!(again.poll_timeout, resolved.config.poll_timeout);
}

#[test]
fn help_names_the_environment_but_not_its_contents() {
    let help = <Command as clap::CommandFactory>::command().render_long_help().to_string();
    assert!(help.contains("--poll-timeout <POLL_TIMEOUT>"), "{help}");
    assert!(help.contains("[env: STARTLINE_TEST_CONFIG_POLL_TIMEOUT]"), "{help}");
}
