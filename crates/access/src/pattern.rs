//! Name patterns as RabbitMQ's users write them: regular expressions with look-around, since
//! `^(?!amq\.)` is what its documentation recommends.

use std::borrow::Cow;

use fancy_regex::Regex;

use crate::excerpt::excerpt;

/// A pattern ready for matching.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Everything matches.
    All,
    /// Nothing matches: what is left of a stored pattern that is not understood.
    Never,
    /// An expression; it need not match the whole name.
    Regex(Box<Regex>),
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(expression: &str) -> Result<Pattern, String> {
        match expression {
            "" | ".*" | "^.*" | "^.*$" | ".*$" => Ok(Pattern::All),
            other => match Regex::new(other) {
                Ok(regex) => Ok(Pattern::Regex(Box::new(regex))),
                Err(error) => Err(one_line(&error.to_string())),
            },
        }
    }

    /// Compiles one of a user's permissions.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub(crate) fn of_permission(expression: &str) -> Result<Pattern, String> {
        // rabbitmq: an empty permission stands for '^$'
        Pattern::new(if expression.is_empty() {
            "^$"
        } else {
            expression
        })
    }

    /// Whether the expression is found in `name`. One that cannot be decided in reasonable time does
    /// not match.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Never => false,
            Pattern::Regex(regex) => regex.is_match(name).unwrap_or(false),
        }
    }
}

/// In one line; where that is long, what is wrong: it stands behind the expression itself.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let all = lines.join(" ");
    match (excerpt(&all), lines.last()) {
        (Cow::Owned(_), Some(last)) => excerpt(last).into_owned(),
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn look_ahead_keeps_the_brokers_own_names_out() {
        let pattern = Pattern::new(r"^(?!amq\.).*").unwrap();
        assert!(pattern.matches("orders"));
        assert!(!pattern.matches("amq.gen-x"));
    }

    #[test]
    fn an_expression_is_found_anywhere_in_the_name() {
        let pattern = Pattern::new("ord").unwrap();
        assert!(pattern.matches("my-orders"));
        assert!(!pattern.matches("my-or-ders"));
    }

    #[test]
    fn an_empty_permission_allows_the_empty_name_only() {
        let pattern = Pattern::of_permission("").unwrap();
        assert!(pattern.matches(""));
        assert!(!pattern.matches("a"));
        assert!(Pattern::new("").unwrap().matches("a"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let error = Pattern::new("(a").unwrap_err();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}
