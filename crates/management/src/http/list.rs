//! Lists, whole or a page of them. A long one is built and sent piece by piece, so that neither its memory nor the work
//! on it at a stretch grows with what there is.

use std::cmp::Ordering;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal, json_of, with_body};
use super::body::{self, PIECE_BYTES, Source};
use super::desk::Desk;
use super::query::{Columns, ListQuery, Page};

/// What is in a list: cheap to copy and to hold, shown when its turn comes.
pub(crate) trait Item: Send + 'static {
    /// The virtual host and the name; lists are in their order.
    fn place(&self) -> (&str, &str);
    /// What decides between two of one place.
    fn rest(&self) -> impl Ord + '_ {}
    /// As JSON; None if it is gone.
    fn show(&self) -> Option<Value>;
}

/// A list on its way.
struct Listing<T> {
    items: std::vec::IntoIter<T>,
    columns: Columns,
    /// What stands before and behind the items, where it is a page.
    page: Option<Value>,
    shown: usize,
    begun: bool,
}

/// Answers a list of what `collect` finds, which is called on the desk.
pub(crate) async fn answer<T: Item>(
    desk: &Desk,
    query: ListQuery,
    collect: impl FnOnce() -> Vec<T> + Send + 'static,
) -> Result<Answer, Refusal> {
    let listing = desk.work(move || Listing::new(collect(), query));
    Ok(with_body(body::built(desk, listing.await??).await?))
}

/// Answers one thing.
pub(crate) async fn one(desk: &Desk, item: impl Item, columns: Columns) -> Result<Answer, Refusal> {
    let show = move || item.show().map(|shown| columns.cut(shown));
    let shown = desk.work(show).await?;
    shown.map(|shown| json_of(&shown)).ok_or(Refusal::NotFound)
}

impl<T: Item> Listing<T> {
    fn new(mut items: Vec<T>, query: ListQuery) -> Result<Self, Refusal> {
        let total = items.len();
        items.sort_by(|one, other| {
            let places = one.place().cmp(&other.place());
            places.then_with(|| one.rest().cmp(&other.rest()))
        });
        if let Some(filter) = &query.name {
            items.retain(|item| filter.takes(item.place().1));
        }
        if let Some(path) = &query.sort {
            items = sorted(items, path);
        }
        if query.reverse {
            items.reverse();
        }
        let page = query
            .page
            .map(|page| cut_out(page, &mut items, total))
            .transpose()?;
        Ok(Self {
            items: items.into_iter(),
            columns: query.columns,
            page,
            shown: 0,
            begun: false,
        })
    }
}

impl<T: Item> Source for Listing<T> {
    /// The next piece; with the last item comes the end.
    fn piece(&mut self) -> Bytes {
        let mut piece = Vec::with_capacity(1024);
        if !self.begun {
            self.begun = true;
            piece.extend_from_slice(if self.page.is_some() {
                b"{\"items\":["
            } else {
                b"["
            });
        }
        while piece.len() < PIECE_BYTES {
            let Some(item) = self.items.next() else {
                break;
            };
            let Some(value) = item.show() else {
                continue;
            };
            if self.shown > 0 {
                piece.push(b',');
            }
            self.shown += 1;
            piece.extend_from_slice(self.columns.cut(value).to_string().as_bytes());
        }
        if self.items.len() == 0 {
            piece.push(b']');
            if let Some(mut page) = self.page.take() {
                page["item_count"] = Value::from(self.shown);
                let rest = page.to_string();
                piece.push(b',');
                piece.extend(rest.bytes().skip(1));
            }
        }
        Bytes::from(piece)
    }

    fn is_done(&self) -> bool {
        self.items.len() == 0
    }
}

/// Puts the items into the order of what they show at `path`, those that show nothing there first. Each is shown for it
/// and let go of again: what a list takes of memory does not grow with what is shown of its items.
fn sorted<T: Item>(items: Vec<T>, path: &[String]) -> Vec<T> {
    let keyed = items.into_iter().map(|item| {
        let shown = item.show();
        let found = path
            .iter()
            .try_fold(shown.as_ref(), |at, name| Some(at?.get(name)));
        (Key::of(found.flatten()), item)
    });
    let mut keyed: Vec<(Key, T)> = keyed.collect();
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// What is sorted by: rabbitmq: numbers before texts
#[derive(Debug, PartialEq)]
enum Key {
    Nothing,
    Flag(bool),
    Number(f64),
    Text(String),
}

impl Key {
    fn of(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Nothing,
            Some(Value::Bool(flag)) => Self::Flag(*flag),
            Some(Value::Number(number)) => Self::Number(number.as_f64().unwrap_or_default()),
            Some(Value::String(text)) => Self::Text(text.clone()),
            Some(other) => Self::Text(other.to_string()),
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |key: &Self| match key {
            Self::Nothing => 0,
            Self::Flag(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
        };
        match (self, other) {
            (Self::Flag(one), Self::Flag(other)) => one.cmp(other),
            (Self::Number(one), Self::Number(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

/// Leaves in `items` those of one page; answers what else is said about it.
fn cut_out<T>(page: Page, items: &mut Vec<T>, total: usize) -> Result<Value, Refusal> {
    let Page { number, size } = page;
    let filtered = items.len();
    let before = (number - 1).saturating_mul(size);
    if before > filtered {
        return Err(Refusal::Bad(
            "page_out_of_range",
            format!("Page out of range, page: {number} page size: {size}, len: {filtered}"),
        ));
    }
    items.drain(..before);
    items.truncate(size);
    Ok(json!({
        "filtered_count": filtered,
        "page": number,
        "page_count": filtered.div_ceil(size),
        "page_size": size,
        "total_count": total,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::query::Query;

    struct Named(String);

    impl Item for Named {
        fn place(&self) -> (&str, &str) {
            ("/", &self.0)
        }

        fn show(&self) -> Option<Value> {
            (self.0 != "gone").then(|| json!({"name": self.0, "padding": "x".repeat(1000)}))
        }
    }

    /// The pieces of a list of `names`, put together, and how many there were.
    fn listed(names: &[String], query: &str) -> Result<(Value, usize), Refusal> {
        let uri = format!("/?{query}").parse().unwrap();
        let query = Query::of(&uri).and_then(|query| query.list()).unwrap();
        let mut listing = Listing::new(names.iter().cloned().map(Named).collect(), query)?;
        let (mut text, mut pieces) = (Vec::new(), 0);
        loop {
            text.extend_from_slice(&listing.piece());
            pieces += 1;
            if listing.is_done() {
                return Ok((serde_json::from_slice(&text).unwrap(), pieces));
            }
        }
    }

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .rev()
            .map(|number| format!("q{number:03}"))
            .collect()
    }

    #[test]
    fn long_lists_come_in_pieces_and_in_order() {
        let (list, pieces) = listed(&names(200), "columns=name").unwrap();
        assert_eq!((list.as_array().unwrap().len(), pieces), (200, 1));
        let (list, pieces) = listed(&names(200), "").unwrap();
        assert_eq!(list[0]["name"], "q000");
        assert_eq!(list[199]["name"], "q199");
        assert!(pieces > 2, "{pieces}");
        assert_eq!(listed(&[], "").unwrap().0, json!([]));
        assert_eq!(listed(&["gone".to_owned()], "").unwrap().0, json!([]));
    }

    #[test]
    fn lists_are_sorted_by_what_is_shown() {
        let names = ["b", "gone", "a"].map(str::to_owned);
        for (query, expected) in [
            ("sort=padding", ["a", "b"]),
            ("sort=name&sort_reverse=true", ["b", "a"]),
        ] {
            let (list, _) = listed(&names, query).unwrap();
            assert_eq!([&list[0]["name"], &list[1]["name"]], expected, "{query}");
        }
        let mut keys = [json!("a"), json!(2), json!(10.5), Value::Null, json!(true)];
        keys.sort_by(|one, other| Key::of(Some(one)).cmp(&Key::of(Some(other))));
        assert_eq!(
            keys,
            [Value::Null, json!(true), json!(2), json!(10.5), json!("a")]
        );
    }

    #[test]
    fn pages_say_where_they_are() {
        let (page, _) = listed(&names(25), "page=3&page_size=10&columns=name").unwrap();
        assert_eq!(page["items"].as_array().unwrap().len(), 5);
        assert_eq!(page["items"][0], json!({"name": "q020"}));
        assert_eq!(
            (&page["item_count"], &page["page_count"]),
            (&json!(5), &json!(3))
        );
        let (page, _) = listed(&names(25), "page=1&name=Q01&sort_reverse=true").unwrap();
        assert_eq!(
            (&page["filtered_count"], &page["total_count"]),
            (&json!(10), &json!(25))
        );
        assert_eq!(page["items"][0]["name"], "q019");
        assert_eq!(listed(&[], "page=1").unwrap().0["items"], json!([]));
        assert_eq!(
            listed(&names(5), "page=3&page_size=5").unwrap_err(),
            Refusal::Bad(
                "page_out_of_range",
                "Page out of range, page: 3 page size: 5, len: 5".to_owned()
            )
        );
    }
}
