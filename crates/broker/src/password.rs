//! Salted password hashes in the format of `rabbit_password_hashing_sha256`:
//! base64 of a 4-byte salt followed by SHA-256 of salt and password (RabbitMQ's passwords guide).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

const SALT_BYTES: usize = 4;

/// How a stored hash was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum HashingAlgorithm {
    /// `rabbit_password_hashing_sha256`
    #[default]
    #[serde(rename = "rabbit_password_hashing_sha256")]
    Sha256,
    /// `rabbit_password_hashing_sha512`
    #[serde(rename = "rabbit_password_hashing_sha512")]
    Sha512,
}

fn digest(algorithm: HashingAlgorithm, salt: &[u8], password: &[u8]) -> Vec<u8> {
    match algorithm {
        HashingAlgorithm::Sha256 => Sha256::new()
            .chain_update(salt)
            .chain_update(password)
            .finalize()
            .to_vec(),
        HashingAlgorithm::Sha512 => Sha512::new()
            .chain_update(salt)
            .chain_update(password)
            .finalize()
            .to_vec(),
    }
}

/// Hashes a password with a salt given by the caller.
#[must_use]
pub fn hash(password: &[u8], salt: [u8; SALT_BYTES]) -> String {
    let mut bytes = salt.to_vec();
    bytes.extend(digest(HashingAlgorithm::Sha256, &salt, password));
    STANDARD.encode(bytes)
}

/// Hashes a password with a new salt.
///
/// # Errors
/// The system gives no random numbers: its reason.
pub fn hash_salted(password: &[u8]) -> Result<String, String> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| error.to_string())?;
    Ok(hash(password, salt))
}

/// Whether `stored` has the form of a hash: base64 of a salt and a digest.
#[must_use]
pub fn is_hash(stored: &str, algorithm: HashingAlgorithm) -> bool {
    let digest_bytes = match algorithm {
        HashingAlgorithm::Sha256 => 32,
        HashingAlgorithm::Sha512 => 64,
    };
    STANDARD
        .decode(stored)
        .is_ok_and(|bytes| bytes.len() == SALT_BYTES + digest_bytes)
}

/// Whether `password` is the one that was hashed. An empty hash matches nothing.
#[must_use]
pub fn matches(password: &[u8], stored: &str, algorithm: HashingAlgorithm) -> bool {
    let Ok(bytes) = STANDARD.decode(stored) else {
        return false;
    };
    let Some((salt, expected)) = bytes.split_at_checked(SALT_BYTES) else {
        return false;
    };
    let actual = digest(algorithm, salt, password);
    // Compare all bytes whatever differs, so that the time taken tells nothing.
    actual.len() == expected.len()
        && actual
            .iter()
            .zip(expected)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_of_the_documentation_matches() {
        // The worked example of RabbitMQ's passwords guide: password "test12", salt 908DC60A.
        assert_eq!(
            hash(b"test12", [0x90, 0x8D, 0xC6, 0x0A]),
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        );
        assert!(matches(
            b"test12",
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
            HashingAlgorithm::Sha256
        ));
        assert!(!matches(
            b"test13",
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
            HashingAlgorithm::Sha256
        ));
    }

    #[test]
    fn damaged_hashes_match_nothing() {
        for stored in ["", "a", "AAAA", "AAAAAA==", "not base64!"] {
            assert!(!matches(b"", stored, HashingAlgorithm::Sha256), "{stored}");
        }
    }
}
