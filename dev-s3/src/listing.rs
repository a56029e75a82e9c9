//! Pages of a bucket's keys. Pure.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use crate::meta::ObjectMeta;

/// Which keys, and how many.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    /// Keys that have it behind the prefix are rolled up; empty for none.
    pub(crate) delimiter: &'a str,
    /// Only what sorts behind this; empty for the start.
    pub(crate) after: &'a str,
    pub(crate) max: usize,
}

/// One page in key order.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Arc<ObjectMeta>>,
    pub(crate) prefixes: Vec<String>,
    /// Where the next page starts behind, if there is one.
    pub(crate) next: Option<String>,
}

/// The page of `objects` that `query` asks for.
pub(crate) fn page(objects: &BTreeMap<String, Arc<ObjectMeta>>, query: &Query<'_>) -> Page {
    let mut page = Page::default();
    let mut last = String::new();
    let start = if query.after < query.prefix {
        Included(query.prefix)
    } else {
        Excluded(query.after)
    };
    for (key, meta) in objects.range::<str, _>((start, Unbounded)) {
        let Some(rest) = key.strip_prefix(query.prefix) else {
            break;
        };
        let rolled = roll_up(rest, query);
        // A prefix that was given out already stands for all its keys.
        if rolled
            .as_deref()
            .is_some_and(|p| p <= query.after || Some(p) == page.prefixes.last().map(String::as_str))
        {
            continue;
        }
        if page.objects.len() + page.prefixes.len() == query.max {
            page.next = (query.max > 0).then_some(last);
            break;
        }
        last = rolled.clone().unwrap_or_else(|| key.clone());
        match rolled {
            Some(prefix) => page.prefixes.push(prefix),
            None => page.objects.push(Arc::clone(meta)),
        }
    }
    page
}

fn roll_up(rest: &str, query: &Query<'_>) -> Option<String> {
    if query.delimiter.is_empty() {
        return None;
    }
    let end = rest.find(query.delimiter)? + query.delimiter.len();
    Some(format!("{}{}", query.prefix, &rest[..end]))
}
