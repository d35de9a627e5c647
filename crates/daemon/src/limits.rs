//! What one key (an address, a principal, a tenant) may take from the others.
//!
//! [`RateLimiter`] says how often; it is for what is cheap to refuse. [`FairGate`] says how many at once, and lets
//! everybody have a turn; it is for what is worth waiting for.

mod fair;
mod rate;

use std::net::{IpAddr, Ipv6Addr};

pub use fair::{FairGate, Overloaded, Permit};
pub use rate::{Rate, RateLimiter, RetryAfter};

/// What to count an address as: itself, or for IPv6 its /64, which one subscriber has as many addresses in as he likes.
#[must_use]
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_subscriber_are_one_key() {
        for (address, key) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(address_key(address.parse().unwrap()).to_string(), key);
        }
    }
}
