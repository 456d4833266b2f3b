//! What follows the question mark: pages, columns, filters. Names, rules and error texts are RabbitMQ's.

use axum::extract;
use axum::http::Uri;
use fancy_regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::answer::Refusal;

/// rabbitmq: items of a page where the request does not say, and at most
const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 500;

/// How often an expression may go back before a name is given up.
const BACKTRACK_LIMIT: usize = 10_000;

/// Names and values, in order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// One page of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Page {
    /// Counted from 1.
    pub(crate) number: usize,
    /// Items of a page.
    pub(crate) size: usize,
}

/// What is wanted of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListQuery {
    /// One page of it, or all of it.
    pub(crate) page: Option<Page>,
    /// Only these names.
    pub(crate) name: Option<Filter>,
    /// By this field, as the way to it through nested objects, before virtual host and name.
    pub(crate) sort: Option<Vec<String>>,
    /// From the last to the first.
    pub(crate) reverse: bool,
    /// Which fields.
    pub(crate) columns: Columns,
}

/// The fields that are wanted, each as the way to it through nested objects; none: all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(Vec<Vec<String>>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let parsed = extract::Query::try_from_uri(uri);
        let extract::Query(pairs) = parsed.map_err(|error| Refusal::bad(error.body_text()))?;
        Ok(Self(pairs))
    }

    /// All of them.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All that is said under a name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.0.iter().filter(move |(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether something is asked for.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// A number, if it is there.
    fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let invalid = || Refusal::bad("Pagination parameters are invalid");
        let value = self.get(name).map(str::parse);
        value.transpose().map_err(|_| invalid())
    }

    /// `limit`, from 1 to the largest page.
    pub(crate) fn limit(&self) -> Result<usize, Refusal> {
        let limit = self.number("limit")?.unwrap_or(PAGE_SIZE);
        if (1..=PAGE_SIZE_MAX).contains(&limit) {
            Ok(limit)
        } else {
            Err(Refusal::bad(format!(
                "limit must be from 1 to {PAGE_SIZE_MAX}"
            )))
        }
    }

    /// Which fields are wanted.
    pub(crate) fn columns(&self) -> Columns {
        let columns = self.get("columns").unwrap_or_default().split(',');
        let columns = columns.filter(|column| !column.is_empty());
        let path = |column: &str| column.split('.').map(str::to_owned).collect();
        Columns(columns.map(path).collect())
    }

    /// What is wanted of a list.
    pub(crate) fn list(&self) -> Result<ListQuery, Refusal> {
        let page = self.page()?;
        let sort = self
            .get("sort")
            .filter(|sort| !["", "name", "vhost"].contains(sort));
        let name = self
            .get("name")
            .filter(|name| page.is_some() && !name.is_empty());
        Ok(ListQuery {
            page,
            sort: sort.map(|sort| sort.split('.').map(str::to_owned).collect()),
            name: name.map(|name| self.filter(name)).transpose()?,
            reverse: self.flag("sort_reverse"),
            columns: self.columns(),
        })
    }

    /// rabbitmq: a part of the name, or an expression, of which it does not matter in which case it is written
    fn filter(&self, name: &str) -> Result<Filter, Refusal> {
        if !self.flag("use_regex") {
            return Ok(Filter::Part(name.to_lowercase()));
        }
        let expression = RegexBuilder::new(&format!("(?i){name}"))
            .backtrack_limit(BACKTRACK_LIMIT)
            .build();
        expression
            .map(|it| Filter::Expression(Box::new(it)))
            .map_err(|error| {
                Refusal::Bad(
                    "invalid_regex",
                    format!("'{name}' is not a valid regular expression: {error}"),
                )
            })
    }

    fn page(&self) -> Result<Option<Page>, Refusal> {
        let (number, size) = (self.number("page")?, self.number("page_size")?);
        match (number, size.unwrap_or(PAGE_SIZE)) {
            (None, _) => Ok(None),
            (Some(number), size) if number > 0 && (1..=PAGE_SIZE_MAX).contains(&size) => {
                Ok(Some(Page { number, size }))
            }
            (Some(number), size) => Err(Refusal::Bad(
                "invalid_pagination_parameters",
                format!("Invalid pagination parameters: page number {number}, page size {size}"),
            )),
        }
    }
}

/// Which names are wanted.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// Those with this in them, lower case.
    Part(String),
    /// Those in which it is found. One that cannot be decided in reasonable time is not.
    Expression(Box<Regex>),
}

impl Filter {
    pub(crate) fn takes(&self, name: &str) -> bool {
        match self {
            Self::Part(part) => name.to_lowercase().contains(part),
            Self::Expression(expression) => expression.is_match(name).unwrap_or(false),
        }
    }
}

impl Columns {
    /// Leaves in `value` what is wanted.
    pub(crate) fn cut(&self, value: Value) -> Value {
        let paths: Vec<&[String]> = self.0.iter().map(Vec::as_slice).collect();
        cut(value, &paths)
    }
}

fn cut(value: Value, paths: &[&[String]]) -> Value {
    // Nothing in particular is wanted of it, or all of it.
    if paths.is_empty() || paths.iter().any(|path| path.is_empty()) {
        return value;
    }
    let Value::Object(fields) = value else {
        return value;
    };
    let mut left = Map::new();
    for (name, field) in fields {
        let below = paths.iter().filter_map(|path| match path.split_first() {
            Some((first, rest)) if *first == name => Some(rest),
            _ => None,
        });
        let below: Vec<&[String]> = below.collect();
        if !below.is_empty() {
            left.insert(name, cut(field, &below));
        }
    }
    Value::Object(left)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn pages_are_checked_as_rabbitmq_checks_them() {
        let page = |text| query(text).list().map(|list| list.page);
        assert_eq!(page(""), Ok(None));
        assert_eq!(page("page_size=7"), Ok(None));
        assert_eq!(
            page("page=2"),
            Ok(Some(Page {
                number: 2,
                size: 100
            }))
        );
        assert_eq!(
            page("page=2&page_size=500"),
            Ok(Some(Page {
                number: 2,
                size: 500
            }))
        );
        for wrong in ["page=0", "page=1&page_size=501", "page=1&page_size=0"] {
            assert!(
                matches!(
                    page(wrong),
                    Err(Refusal::Bad("invalid_pagination_parameters", _))
                ),
                "{wrong}"
            );
        }
        for wrong in ["page=x", "page=-1", "page=1&page_size=x"] {
            assert_eq!(
                page(wrong),
                Err(Refusal::bad("Pagination parameters are invalid")),
                "{wrong}"
            );
        }
        let sort = |text| query(text).list().map(|list| list.sort);
        assert_eq!(sort("sort=name"), Ok(None));
        let path = vec!["message_stats".to_owned(), "publish".to_owned()];
        assert_eq!(sort("sort=message_stats.publish"), Ok(Some(path)));
    }

    #[test]
    fn columns_leave_what_is_named() {
        let value =
            || json!({"name": "q", "messages": 1, "stats": {"publish": 2, "rate": {"a": 3}}});
        let cut = |columns: &str| query(&format!("columns={columns}")).columns().cut(value());
        assert_eq!(cut(""), value());
        assert_eq!(cut("name,zz"), json!({"name": "q"}));
        assert_eq!(
            cut("name,stats.rate"),
            json!({"name": "q", "stats": {"rate": {"a": 3}}})
        );
        assert_eq!(cut("stats"), json!({"stats": value()["stats"]}));
    }

    #[test]
    fn names_are_filtered_in_bounded_time() {
        let takes = |text: &str, name: &str| {
            let list = query(&format!("page=1&{text}")).list().unwrap();
            list.name.unwrap().takes(name)
        };
        assert!(takes("name=Bc", "abCd") && !takes("name=b.", "abc"));
        assert!(
            takes("name=^a.C$&use_regex=true", "ABC") && !takes("name=^b&use_regex=true", "abc")
        );
        assert!(takes("name=^(?!x)&use_regex=true", "abc"));
        let hard = "name=(?=(a%2B)%2B$)(a%2B)%2Bb&use_regex=true";
        assert!(!takes(hard, &"a".repeat(200)));
        let wrong = query("page=1&name=(&use_regex=true").list();
        assert!(matches!(wrong, Err(Refusal::Bad("invalid_regex", _))));
    }

    #[test]
    fn values_are_decoded() {
        let query = query("name=a+b%2Bc&x");
        assert_eq!(query.get("name"), Some("a b+c"));
        assert_eq!(query.get("x"), Some(""));
    }
}
