//! The registry's secret, and the cookies, passes, seeds and MACs that are computed with keys.
//!
//! Cookies prove a source address, passes prove a membership, seeds draw the meshes. All are
//! computed from 32 bytes that outlive the process, so that a restart changes none of them, and a
//! stranger who was sent a cookie costs no memory.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The 32 random bytes that a registry keeps secret.
pub struct Secret([u8; 32]);

impl Secret {
    /// Returns the secret that was stored as `bytes`.
    pub fn from_bytes(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    /// Makes a new secret with the operating system's random number generator.
    pub fn random() -> Result<Secret, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Secret(bytes))
    }

    /// Returns the 32 bytes of the secret, for storage.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the issuer of the cookies that are made with this secret.
    pub fn cookie_issuer(&self) -> CookieIssuer {
        let key = self.key("hit7 v1 cookie");
        let half = key.first_chunk().expect("a key has 32 bytes");
        CookieIssuer { key: SipHasher24::new_with_key(half) }
    }

    /// Returns the pass of `room` in the window that starts at `window`: 128 bits, 22 characters of
    /// base64url.
    pub fn pass(&self, window: [u8; 8], room: &str) -> String {
        let hash = room_hash(&self.key("hit7 v1 pass"), window, room);
        URL_SAFE_NO_PAD.encode(&hash.as_bytes()[..16])
    }

    /// Returns the seed that draws the mesh of `room` in the window that starts at `window`.
    pub fn seed(&self, window: [u8; 8], room: &str) -> [u8; 32] {
        room_hash(&self.key("hit7 v1 seed"), window, room).into()
    }

    /// Derives the key for one purpose, which reveals nothing of the keys for others.
    fn key(&self, usage: &str) -> [u8; 32] {
        blake3::derive_key(usage, &self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Returns the keyed hash of a window and a room. The window has a fixed length and comes first, so
/// that no two pairs hash the same bytes.
fn room_hash(key: &[u8; 32], window: [u8; 8], room: &str) -> blake3::Hash {
    blake3::Hasher::new_keyed(key).update(&window).update(room.as_bytes()).finalize()
}

/// The number of characters in a cookie.
pub const COOKIE_LEN: usize = 16;

/// The cookie that a client sends before it has received one: as long as a real one, so that a
/// CHALLENGE is never larger than the request that it answers.
pub const NO_COOKIE: &str = "0000000000000000";

/// Proof of a source address: a client that sends a cookie back has received it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie([u8; COOKIE_LEN]);

impl Cookie {
    /// Returns the cookie as 16 characters of base64url.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("base64 is ASCII")
    }
}

/// A key of a private registry: clients that have it may send requests.
#[derive(Clone)]
pub struct Key([u8; 32]);

/// The error for a text that is too short to be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a key is at least {MIN_KEY_BYTES} bytes, and this has {0}; make one with: openssl rand -base64 24"
)]
pub struct KeyError(usize);

/// The least length of a key's text, in bytes: 128 bits.
const MIN_KEY_BYTES: usize = 16;

impl Key {
    /// Derives the key from `text`, or fails if that is shorter than 16 bytes.
    pub fn from_text(text: &str) -> Result<Key, KeyError> {
        if text.len() < MIN_KEY_BYTES {
            return Err(KeyError(text.len()));
        }
        Ok(Key(blake3::derive_key("hit7 v1 request mac", text.as_bytes())))
    }

    /// Returns the MAC of a request's bytes: 128 bits, 22 characters of base64url.
    pub fn mac(&self, signed_bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(&blake3::keyed_hash(&self.0, signed_bytes).as_bytes()[..16])
    }

    /// Returns whether `mac` is the MAC of a request's bytes, in constant time: an early exit would
    /// let the MAC be guessed byte by byte.
    pub fn verify(&self, mac: &str, signed_bytes: &[u8]) -> bool {
        self.mac(signed_bytes).as_bytes().ct_eq(mac.as_bytes()).into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Makes and verifies cookies, and stores none. RFC 9000 §8.1 asks for an address to be validated
/// before anything larger than its own request is sent there, or a forged source would turn the
/// registry into an amplifier.
#[derive(Clone)]
pub struct CookieIssuer {
    key: SipHasher24,
}

impl CookieIssuer {
    /// How long a cookie is valid, in seconds.
    const LIFETIME_SECONDS: u32 = 120;

    /// Makes a cookie for `source` at `now_seconds` (Unix time modulo 2³²).
    pub fn issue(&self, source: SocketAddr, now_seconds: u32) -> Cookie {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&now_seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&self.mac(source, now_seconds));
        let mut text = [0; COOKIE_LEN];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("12 bytes are 16 characters");
        Cookie(text)
    }

    /// Returns whether `cookie` was made for `source` within the 120 s before `now_seconds`.
    pub fn verify(&self, cookie: &str, source: SocketAddr, now_seconds: u32) -> bool {
        let Some((time, mac)) = split_cookie(cookie) else { return false };
        // A cookie from the future counts as four billion seconds old.
        let fresh = now_seconds.wrapping_sub(time) <= CookieIssuer::LIFETIME_SECONDS;
        // In constant time: an early exit would let the MAC be guessed byte by byte. A million
        // guesses a second at all 64 bits of it succeed once in half a million years.
        fresh && self.mac(source, time).ct_eq(&mac).into()
    }

    /// Returns the MAC over time, port and IP. The IP comes last, as IPv4 and IPv6 differ in
    /// length; a mapped IPv4 address is IPv4, and IPv6's flow and scope are not the sender's
    /// address. SipHash-2-4 is made for a MAC of 64 bits over so short a text (Aumasson and
    /// Bernstein, 2012), and one is verified for every request.
    fn mac(&self, source: SocketAddr, time: u32) -> [u8; 8] {
        let mut bytes = [0; 22];
        bytes[..4].copy_from_slice(&time.to_be_bytes());
        bytes[4..6].copy_from_slice(&source.port().to_be_bytes());
        let ip: &[u8] = match source.ip().to_canonical() {
            IpAddr::V4(ip) => &ip.octets(),
            IpAddr::V6(ip) => &ip.octets(),
        };
        let end = 6 + ip.len();
        bytes[6..end].copy_from_slice(ip);
        self.key.hash(&bytes[..end]).to_be_bytes()
    }
}

impl fmt::Debug for CookieIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieIssuer(..)")
    }
}

/// Splits a cookie into its time and its MAC; `None` if it is malformed. 16 characters are 12 bytes
/// with no bits left over, so there is one way to write each.
fn split_cookie(cookie: &str) -> Option<(u32, [u8; 8])> {
    let mut bytes = [0; 12];
    if cookie.len() != COOKIE_LEN || URL_SAFE_NO_PAD.decode_slice(cookie, &mut bytes) != Ok(12) {
        return None;
    }
    let (time, mac) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*time), *mac.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddrV6;

    const NOW: u32 = 1_795_433_340;
    const WINDOW: [u8; 8] = (NOW as u64).to_be_bytes();

    fn secret() -> Secret {
        Secret::from_bytes([7; 32])
    }

    fn issuer() -> CookieIssuer {
        secret().cookie_issuer()
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ana() -> SocketAddr {
        addr("203.0.113.9:40112")
    }

    fn proves(cookie: Cookie, source: &str) -> bool {
        issuer().verify(cookie.as_str(), addr(source), NOW)
    }

    #[test]
    fn a_cookie_proves_the_address_it_was_sent_to_and_no_other() {
        let cookie = issuer().issue(ana(), NOW);
        assert!(proves(cookie, "203.0.113.9:40112"));
        for other in ["203.0.113.9:40113", "203.0.113.10:40112", "[2001:db8::9]:40112"] {
            assert!(!proves(cookie, other), "{other}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_120_seconds() {
        let cookie = issuer().issue(ana(), NOW);
        let good = |now| issuer().verify(cookie.as_str(), ana(), now);
        assert!(good(NOW) && good(NOW + 1) && good(NOW + 120));
        assert!(!good(NOW + 121));
        assert!(!good(NOW - 1), "from the future");
    }

    #[test]
    fn cookies_survive_the_overflow_of_32_bit_time() {
        let cookie = issuer().issue(ana(), u32::MAX - 9);
        let good = |now| issuer().verify(cookie.as_str(), ana(), now);
        assert!(good(u32::MAX) && good(0) && good(110));
        assert!(!good(111) && !good(u32::MAX - 10));
    }

    #[test]
    fn a_cookie_with_one_bit_changed_is_refused() {
        let cookie = issuer().issue(ana(), NOW);
        let bytes = URL_SAFE_NO_PAD.decode(cookie.as_str()).unwrap();
        for bit in 0..96 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(forged);
            // Also at times when the forged cookie would be fresh.
            for now in [NOW, NOW + 60, split_cookie(&forged).unwrap().0] {
                assert!(!issuer().verify(&forged, ana(), now), "bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_no_cookie_proves_nothing() {
        let good = issuer().issue(ana(), NOW);
        let good = good.as_str();
        let longer = format!("{good}A");
        let padded = format!("{}==", &good[..14]);
        let spaced = format!(" {}", &good[..15]);
        let accented = format!("{}é", &good[..14]);
        let garbage = ["", "A", &good[..15], &longer, &padded, &spaced, &accented];
        for text in garbage.into_iter().chain([NO_COOKIE, "+/+/+/+/+/+/+/+/", "================"]) {
            assert!(!issuer().verify(text, ana(), NOW), "{text}");
        }
    }

    #[test]
    fn the_placeholder_is_as_long_as_a_cookie_and_never_one() {
        assert_eq!(NO_COOKIE.len(), COOKIE_LEN);
        assert!(!issuer().verify(NO_COOKIE, ana(), split_cookie(NO_COOKIE).unwrap().0));
    }

    #[test]
    fn a_mapped_ipv4_is_ipv4_and_flow_and_scope_do_not_count() {
        let cookie = issuer().issue(ana(), NOW);
        assert!(proves(cookie, "[::ffff:203.0.113.9]:40112"));
        let ip = "fe80::9".parse().unwrap();
        let cookie = issuer().issue(SocketAddrV6::new(ip, 40112, 1, 2).into(), NOW);
        assert!(proves(cookie, "[fe80::9]:40112"));
    }

    #[test]
    fn cookies_survive_a_restart_and_no_other_secret_takes_them() {
        let cookie = issuer().issue(ana(), NOW);
        let restarted = Secret::from_bytes(*secret().as_bytes()).cookie_issuer();
        assert!(restarted.verify(cookie.as_str(), ana(), NOW + 5));
        let stranger = Secret::from_bytes([8; 32]).cookie_issuer();
        assert!(!stranger.verify(cookie.as_str(), ana(), NOW + 5));
    }

    /// A newer hit7 that is started on the same directory has to compute the same.
    #[test]
    fn cookies_passes_and_seeds_of_a_secret_never_change() {
        assert_eq!(issuer().issue(ana(), NOW).as_str(), "awQjfB5MveLQanZE");
        assert_eq!(issuer().issue(addr("[2001:db8::9]:40112"), NOW).as_str(), "awQjfLwiI_wKKK2U");
        assert_eq!(secret().pass(WINDOW, "main"), "rYaaNujHw5pa-pmYj8wcug");
        assert_eq!(
            URL_SAFE_NO_PAD.encode(secret().seed(WINDOW, "main")),
            "ZDGQsGprXwvgMMYRs_uYXvg2OrvlxCfMzRnZSPJiqoI"
        );
    }

    #[test]
    fn passes_and_seeds_are_of_one_window_room_and_secret() {
        let next = (u64::from(NOW) + 60).to_be_bytes();
        let other = Secret::from_bytes([8; 32]);
        let pass = secret().pass(WINDOW, "main");
        assert_eq!(pass.len(), 22);
        assert_ne!(pass, secret().pass(next, "main"));
        assert_ne!(pass, secret().pass(WINDOW, "lab"));
        assert_ne!(pass, other.pass(WINDOW, "main"));
        let seed = secret().seed(WINDOW, "main");
        assert_ne!(seed, secret().seed(next, "main"));
        assert_ne!(seed, secret().seed(WINDOW, "lab"));
        assert_ne!(seed, other.seed(WINDOW, "main"));
    }

    #[test]
    fn a_pass_tells_nothing_of_the_seed() {
        let seed = secret().seed(WINDOW, "main");
        assert_ne!(secret().pass(WINDOW, "main"), URL_SAFE_NO_PAD.encode(&seed[..16]));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?} {:?}", secret(), issuer()), "Secret(..) CookieIssuer(..)");
    }

    #[test]
    fn new_secrets_differ() {
        assert_ne!(Secret::random().unwrap().as_bytes(), Secret::random().unwrap().as_bytes());
    }

    proptest! {
        #[test]
        fn every_address_is_proven_by_its_cookie(source: SocketAddr, now: u32, age in 0u32..=120) {
            let cookie = issuer().issue(source, now);
            prop_assert_eq!(cookie.as_str().len(), COOKIE_LEN);
            prop_assert!(issuer().verify(cookie.as_str(), source, now.wrapping_add(age)));
        }

        #[test]
        fn other_text_of_any_length_proves_nothing(text in ".{0,40}", key in "[A-Za-z0-9_-]{16}", now: u32) {
            prop_assert!(!issuer().verify(&text, ana(), now));
            prop_assert!(!issuer().verify(&key, ana(), now));
        }
    }

    #[test]
    fn a_key_verifies_the_macs_that_it_made() {
        let key = Key::from_text("correct horse battery").unwrap();
        let mac = key.mac(b"request");
        assert_eq!(mac.len(), 22);
        assert!(key.verify(&mac, b"request"));
        assert!(!key.verify(&mac, b"other"));
        assert!(!key.verify(&mac[..21], b"request") && !key.verify("", b"request"));
        let other = Key::from_text("another key, as long").unwrap();
        assert!(!other.verify(&mac, b"request"));
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(Key::from_text("fifteen letters").unwrap_err(), KeyError(15));
        assert!(Key::from_text("sixteen letters!").is_ok());
    }
}
