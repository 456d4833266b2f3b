//! What `/metrics/detailed` is asked for: families, virtual hosts, queues.

use fancy_regex::{Regex, RegexBuilder};

use crate::http::answer::Refusal;
use crate::http::query::Query;

/// How often an expression may go back before a name is given up.
const BACKTRACK_LIMIT: usize = 10_000;

/// What is wanted.
#[derive(Debug, Default)]
pub(super) struct Selection {
    families: Vec<String>,
    /// None of them: all virtual hosts.
    vhosts: Vec<String>,
    queue: Option<Box<Regex>>,
}

impl Selection {
    /// What the query says. rabbitmq: a family or virtual host that there is not is passed over
    pub(super) fn of(query: &Query) -> Result<Self, Refusal> {
        let all = |name| query.all(name).map(str::to_owned).collect();
        let queue = query.get("queue").map(|expression| {
            let built = RegexBuilder::new(expression)
                .backtrack_limit(BACKTRACK_LIMIT)
                .build();
            built.map(Box::new).map_err(|error| {
                let text = format!("'{expression}' is not a valid regular expression: {error}");
                Refusal::Bad("invalid_regex", text)
            })
        });
        Ok(Self {
            families: all("family"),
            vhosts: all("vhost"),
            queue: queue.transpose()?,
        })
    }

    /// Whether a family's group is wanted.
    pub(super) fn wants(&self, group: &str) -> bool {
        self.families.iter().any(|family| family == group)
    }

    /// Whether what is in a virtual host is.
    pub(super) fn takes_vhost(&self, vhost: &str) -> bool {
        self.vhosts.is_empty() || self.vhosts.iter().any(|known| known == vhost)
    }

    /// Whether a queue is.
    pub(super) fn takes_queue(&self, vhost: &str, queue: &str) -> bool {
        let expression = self.queue.as_ref();
        self.takes_vhost(vhost)
            && expression.is_none_or(|expression| expression.is_match(queue).unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Selection, Refusal> {
        Selection::of(&Query::of(&format!("/?{query}").parse().unwrap()).unwrap())
    }

    #[test]
    fn what_is_not_narrowed_down_is_all() {
        let all = of("family=a&family=b").unwrap();
        assert!(all.wants("a") && all.wants("b") && !all.wants("c"));
        assert!(all.takes_queue("/", "q") && all.takes_vhost("x"));
        let narrow = of("vhost=%2f&vhost=v&queue=^a.*z$").unwrap();
        assert!(narrow.takes_queue("/", "abcz") && narrow.takes_queue("v", "az"));
        assert!(!narrow.takes_queue("w", "az") && !narrow.takes_queue("v", "AZ"));
        assert!(matches!(
            of("queue=("),
            Err(Refusal::Bad("invalid_regex", _))
        ));
    }
}
