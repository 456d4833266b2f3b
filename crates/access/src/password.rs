//! Salted password hashes in the format of `rabbit_password_hashing_sha256`:
//! base64 of a 4-byte salt followed by SHA-256 of salt and password (RabbitMQ's passwords guide).
//! A blank password is no password, whatever is stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

const SALT_BYTES: usize = 4;

const SHA256: &str = "rabbit_password_hashing_sha256";
const SHA512: &str = "rabbit_password_hashing_sha512";
const MD5: &str = "rabbit_password_hashing_md5";

/// How a stored hash was made.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "String", into = "String")]
pub enum HashingAlgorithm {
    /// `rabbit_password_hashing_sha256`
    #[default]
    Sha256,
    /// `rabbit_password_hashing_sha512`
    Sha512,
    /// `rabbit_password_hashing_md5`, RabbitMQ's own before 3.6.
    Md5,
    /// Any other, by its name: no password will do.
    Unknown(String),
}

impl From<String> for HashingAlgorithm {
    fn from(name: String) -> HashingAlgorithm {
        match name.as_str() {
            SHA256 => HashingAlgorithm::Sha256,
            SHA512 => HashingAlgorithm::Sha512,
            MD5 => HashingAlgorithm::Md5,
            _ => HashingAlgorithm::Unknown(name),
        }
    }
}

impl From<HashingAlgorithm> for String {
    fn from(algorithm: HashingAlgorithm) -> String {
        match algorithm {
            HashingAlgorithm::Sha256 => SHA256.to_owned(),
            HashingAlgorithm::Sha512 => SHA512.to_owned(),
            HashingAlgorithm::Md5 => MD5.to_owned(),
            HashingAlgorithm::Unknown(name) => name,
        }
    }
}

fn salted<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
    let hash = D::new().chain_update(salt).chain_update(password);
    hash.finalize().to_vec()
}

/// None: nobody knows how.
fn digest(algorithm: &HashingAlgorithm, salt: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        HashingAlgorithm::Sha256 => Some(salted::<Sha256>(salt, password)),
        HashingAlgorithm::Sha512 => Some(salted::<Sha512>(salt, password)),
        HashingAlgorithm::Md5 => Some(salted::<Md5>(salt, password)),
        HashingAlgorithm::Unknown(_) => None,
    }
}

/// Hashes a password with a salt given by the caller.
#[must_use]
pub fn hash(password: &[u8], salt: [u8; SALT_BYTES]) -> String {
    let mut bytes = salt.to_vec();
    bytes.extend(salted::<Sha256>(&salt, password));
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

/// Bytes that nobody can guess.
///
/// # Errors
/// The system gives no random numbers: its reason.
pub fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Whether `stored` has the form of a hash: base64 of a salt and a digest.
#[must_use]
pub fn is_hash(stored: &str, algorithm: &HashingAlgorithm) -> bool {
    let digest_bytes = match algorithm {
        HashingAlgorithm::Sha256 => 32,
        HashingAlgorithm::Sha512 => 64,
        HashingAlgorithm::Md5 => 16,
        HashingAlgorithm::Unknown(_) => return false,
    };
    STANDARD
        .decode(stored)
        .is_ok_and(|bytes| bytes.len() == SALT_BYTES + digest_bytes)
}

/// Whether `stored` is base64 of anything.
#[must_use]
pub fn is_base64(stored: &str) -> bool {
    STANDARD.decode(stored).is_ok()
}

/// Whether `password` is the one that was hashed. An empty hash matches nothing, and nothing matches a
/// blank password.
#[must_use]
pub fn matches(password: &[u8], stored: &str, algorithm: &HashingAlgorithm) -> bool {
    if password.is_empty() {
        return false;
    }
    let Ok(bytes) = STANDARD.decode(stored) else {
        return false;
    };
    let Some((salt, expected)) = bytes.split_at_checked(SALT_BYTES) else {
        return false;
    };
    let Some(actual) = digest(algorithm, salt, password) else {
        return false;
    };
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
        let stored = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        assert!(matches(b"test12", stored, &HashingAlgorithm::Sha256));
        assert!(!matches(b"test13", stored, &HashingAlgorithm::Sha256));
    }

    #[test]
    fn each_algorithm_knows_its_own_hashes_alone() {
        use HashingAlgorithm::{Md5, Sha256, Sha512};
        let unknown = HashingAlgorithm::from("rabbit_password_hashing_other".to_owned());
        for made_by in [Sha256, Sha512, Md5] {
            let salt = [1, 2, 3, 4];
            let mut bytes = salt.to_vec();
            bytes.extend(digest(&made_by, &salt, b"secret").unwrap());
            let stored = STANDARD.encode(bytes);
            for read_by in [Sha256, Sha512, Md5, unknown.clone()] {
                let same = read_by == made_by;
                assert_eq!(is_hash(&stored, &read_by), same);
                assert_eq!(matches(b"secret", &stored, &read_by), same);
                assert!(!matches(b"Secret", &stored, &read_by));
            }
            let name = String::from(made_by.clone());
            assert_eq!(HashingAlgorithm::from(name), made_by);
        }
        assert_eq!(String::from(unknown), "rabbit_password_hashing_other");
    }

    #[test]
    fn a_blank_password_matches_nothing() {
        assert!(!matches(b"", &hash(b"", [0; 4]), &HashingAlgorithm::Sha256));
        assert!(!matches(b"", "", &HashingAlgorithm::Sha256));
    }

    #[test]
    fn damaged_hashes_match_nothing() {
        for stored in ["", "a", "AAAA", "AAAAAA==", "not base64!"] {
            assert!(
                !matches(b"x", stored, &HashingAlgorithm::Sha256),
                "{stored}"
            );
        }
    }
}
