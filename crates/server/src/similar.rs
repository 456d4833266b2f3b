//! What somebody probably meant who wrote a name that is not there.

use strsim::normalized_damerau_levenshtein;

/// How much of a name must be right.
const LIKENESS_MIN: f64 = 0.7;

/// The name most like `name`, if one is like it at all. Case does not count, nor `-` for `_`.
pub(crate) fn similar<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let name = plain(name);
    among
        .map(|known| (normalized_damerau_levenshtein(&name, &plain(known)), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_and_others() {
        let known = ["listen", "data_dir", "default_password"];
        let meant = |name| similar(name, known.into_iter());
        assert_eq!(meant("lisen"), Some("listen"));
        assert_eq!(meant("Data-Dir"), Some("data_dir"));
        assert_eq!(meant("default_pasword"), Some("default_password"));
        assert_eq!(meant("port"), None);
        assert_eq!(meant(""), None);
    }
}
