use http::HeaderValue;
use jiff::SignedDuration;

use super::*;

struct Bench {
    limits: Limits,
    now: Timestamp,
}

impl Bench {
    /// Ten times these may come at once.
    fn new(address_rate: u32, failed_auth_rate: u32, bearer_rate: u32) -> Self {
        let config = ServerConfig { address_rate, failed_auth_rate, bearer_rate, ..ServerConfig::defaults() };
        Self { limits: Limits::new(&config), now: Timestamp::from_second(1_000_000).unwrap() }
    }

    fn ask(&self, address: &str, bearer: Option<&str>) -> Result<(), Exceeded> {
        let mut headers = HeaderMap::new();
        if let Some(bearer) = bearer {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("bearer {bearer}")).unwrap());
        }
        let address = Some(address.parse().unwrap());
        self.limits.admit(self.now, address, &headers).map_err(|refused| refused.exceeded)
    }

    /// A request whose bearer turns out to be good.
    fn good(&self, address: &str, bearer: &str) -> Result<(), Exceeded> {
        self.ask(address, Some(bearer))?;
        self.limits.was_good(bearer, Some(address.parse().unwrap()));
        Ok(())
    }

    fn bad(&self, address: &str, bearer: &str) -> Result<(), Exceeded> {
        self.ask(address, Some(bearer))?;
        self.limits.refused_at(self.now, bearer, Some(address.parse().unwrap()));
        Ok(())
    }
}

const NAT: &str = "192.0.2.1";

#[test]
fn any_number_of_good_bearers_come_from_one_address() {
    let bench = Bench::new(1, 1, 10);
    for runner in 0..1000 {
        for _ in 0..5 {
            bench.good(NAT, &format!("slt_{runner}")).unwrap();
        }
    }
}

#[test]
fn a_bad_neighbour_is_asked_to_wait_and_those_who_were_good_are_not() {
    let mut bench = Bench::new(1000, 1, 10);
    bench.good(NAT, "slt_good").unwrap();
    let refused = (0..100).filter(|guess| bench.bad(NAT, &format!("slt_{guess}")).is_err()).count();
    assert_eq!(refused, 90);
    assert_eq!(bench.ask(NAT, Some("slt_new")), Err(Exceeded::Failures));
    bench.good(NAT, "slt_good").unwrap();
    bench.limits.minted("slt_minted");
    bench.good(NAT, "slt_minted").unwrap();
    bench.good("192.0.2.2", "slt_elsewhere").unwrap();
    bench.now += SignedDuration::from_secs(1);
    bench.good(NAT, "slt_new").unwrap();
}

#[test]
fn a_bearer_that_was_good_and_is_refused_counts_as_refused() {
    let bench = Bench::new(1000, 1, 1000);
    bench.good(NAT, "slt_revoked").unwrap();
    let heard = (0..100).take_while(|_| bench.bad(NAT, "slt_revoked").is_ok()).count();
    assert_eq!(heard, 10);
}

#[test]
fn without_a_bearer_an_address_is_counted_and_ipv6_by_its_network() {
    let bench = Bench::new(1, 1, 1);
    for host in 0..10 {
        bench.ask(&format!("2001:db8::{host}"), None).unwrap();
    }
    assert_eq!(bench.ask("2001:db8::ffff", None), Err(Exceeded::Address));
    bench.ask("2001:db8:0:1::", None).unwrap();
    bench.ask(NAT, None).unwrap();
}

#[test]
fn a_bearer_is_bounded_wherever_it_comes_from() {
    let bench = Bench::new(1000, 1000, 2);
    let heard = (0..100).filter(|host| bench.good(&format!("192.0.2.{host}"), "slt_busy").is_ok()).count();
    // The first was counted for its address alone.
    assert_eq!(heard, 21);
    bench.good(NAT, "slt_other").unwrap();
}

#[test]
fn zero_is_no_limit() {
    let bench = Bench::new(0, 0, 0);
    for guess in 0..10_000 {
        bench.bad(NAT, "slt_bad").unwrap();
        bench.ask(NAT, None).unwrap();
        bench.good(NAT, &format!("slt_{}", guess % 7)).unwrap();
    }
}

#[test]
fn the_refusal_names_limit_setting_and_time() {
    let too_many =
        TooMany { exceeded: Exceeded::Failures, per_second: 20, wait: RetryAfter(std::time::Duration::ZERO) };
    let error = ApiError::from(too_many);
    assert_eq!(error.problem().status, 429);
    assert!(error.problem().title.contains("20 a second") && error.problem().title.contains("`failed_auth_rate`"));
}

#[test]
fn what_is_no_bearer_is_told_apart() {
    let of = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(text));
        token(&headers).map(str::to_owned)
    };
    assert_eq!(token(&HeaderMap::new()), Err(NoBearer::Missing));
    assert_eq!(of("BEARER  slp_x "), Ok("slp_x".to_owned()));
    for odd in ["", "slp_x", "Basic slp_x", "Bearer"] {
        assert_eq!(of(odd), Err(NoBearer::Scheme), "{odd:?}");
    }
}
