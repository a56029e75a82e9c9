//! Which resources somebody wants to see: conditions on what never changes of a resource, so that events and lists filtered
//! alike add up to the same. Pure.
//!
//! Absent on purpose: conditions on what changes (a role's holder, a version's state). A record that stops meeting one would
//! stay for ever with whoever folds the events that do.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{InvalidId, ModelName, RegionId, RoleName};

/// A kind of resource that lists and watches carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the record of that name")]
pub enum ResourceKind {
    Region,
    Node,
    Model,
    Version,
    Alias,
    Replica,
    Role,
    Plan,
    Timing,
    Experiment,
    Service,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Region,
        Self::Node,
        Self::Model,
        Self::Version,
        Self::Alias,
        Self::Replica,
        Self::Role,
        Self::Plan,
        Self::Timing,
        Self::Experiment,
        Self::Service,
    ];

    /// As people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Node => "node",
            Self::Model => "model",
            Self::Version => "version",
            Self::Alias => "alias",
            Self::Replica => "replica",
            Self::Role => "role",
            Self::Plan => "plan",
            Self::Timing => "timing",
            Self::Experiment => "experiment",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for ResourceKind {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        let one_of =
            "must be region, node, model, version, alias, replica, role, plan, timing, experiment or service";
        found.ok_or_else(|| InvalidId::new("kind of resource", text, one_of))
    }
}

/// A form of names: each `*` stands for any part of one, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Bytes of a pattern at most.
    pub const BYTES_MAX: usize = 512;

    /// Whether a text is of this form.
    pub fn takes(&self, text: &str) -> bool {
        is_of_form(&self.0, text)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for Pattern {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let shown: String = text.chars().take(80).collect();
        if text.is_empty() {
            return Err(InvalidId::new(
                "pattern",
                &shown,
                "must not be empty; * takes everything",
            ));
        }
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidId::new("pattern", &shown, "must have at most 512 bytes"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether `text` is of the form of `pattern`, in which each `*` stands for any part of a text, also for none.
pub fn is_of_form(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*').peekable();
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        // The earliest place leaves most for the parts that follow.
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    true
}

/// What a filter looks at of a resource: nothing of it ever changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// What it is.
    pub kind: ResourceKind,
    /// The model that it belongs to.
    pub model: Option<&'a ModelName>,
    /// The region that it is in.
    pub region: Option<&'a RegionId>,
    /// The role that it is, or moves.
    pub role: Option<&'a RoleName>,
}

impl<'a> Subject<'a> {
    /// Of a kind, and nothing else yet.
    pub const fn of(kind: ResourceKind) -> Self {
        Self {
            kind,
            model: None,
            region: None,
            role: None,
        }
    }

    /// The name of its model, or the one that its role is named after.
    fn model_name(&self) -> Option<&'a str> {
        let family = self.role.map(RoleName::family);
        self.model.map(ModelName::as_str).or(family)
    }
}

/// Which resources are wanted: those that meet every condition which is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchFilter {
    /// Of one of these kinds; empty: of any.
    pub kinds: BTreeSet<ResourceKind>,
    /// Of a model with such a name, or of a role that is named after one.
    pub model: Option<Pattern>,
    /// In a region with such a name.
    pub region: Option<Pattern>,
    /// Of a role with such a name.
    pub role: Option<Pattern>,
}

impl WatchFilter {
    /// Whether it takes every resource.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a resource is wanted. One that has no model is not of any, and so on.
    pub fn takes(&self, subject: &Subject<'_>) -> bool {
        let meets = |pattern: &Option<Pattern>, text: Option<&str>| match pattern {
            None => true,
            Some(pattern) => text.is_some_and(|text| pattern.takes(text)),
        };
        (self.kinds.is_empty() || self.kinds.contains(&subject.kind))
            && meets(&self.model, subject.model_name())
            && meets(&self.region, subject.region.map(RegionId::as_str))
            && meets(&self.role, subject.role.map(RoleName::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter as `kind=role kind=plan model=fraud.*`.
    fn filter(text: &str) -> WatchFilter {
        let mut filter = WatchFilter::default();
        for (field, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            match field {
                "kind" => drop(filter.kinds.insert(value.parse().unwrap())),
                "model" => filter.model = Some(value.parse().unwrap()),
                "region" => filter.region = Some(value.parse().unwrap()),
                _ => filter.role = Some(value.parse().unwrap()),
            }
        }
        filter
    }

    #[test]
    fn a_filter_takes_what_meets_all_of_its_conditions() {
        let (fraud, churn): (ModelName, ModelName) =
            ("fraud.scorer".parse().unwrap(), "churn".parse().unwrap());
        let (eu, us): (RegionId, RegionId) = ("eu".parse().unwrap(), "us".parse().unwrap());
        let (global, family): (RoleName, RoleName) =
            (RoleName::global(), "primaries/fraud.scorer".parse().unwrap());
        let of = Subject::of;
        let all = [
            (
                "region eu",
                Subject {
                    region: Some(&eu),
                    ..of(ResourceKind::Region)
                },
            ),
            (
                "node us",
                Subject {
                    region: Some(&us),
                    ..of(ResourceKind::Node)
                },
            ),
            (
                "model fraud",
                Subject {
                    model: Some(&fraud),
                    ..of(ResourceKind::Model)
                },
            ),
            (
                "version churn us",
                Subject {
                    model: Some(&churn),
                    region: Some(&us),
                    ..of(ResourceKind::Version)
                },
            ),
            (
                "alias fraud",
                Subject {
                    model: Some(&fraud),
                    ..of(ResourceKind::Alias)
                },
            ),
            (
                "replica fraud eu",
                Subject {
                    model: Some(&fraud),
                    region: Some(&eu),
                    ..of(ResourceKind::Replica)
                },
            ),
            (
                "role global",
                Subject {
                    role: Some(&global),
                    ..of(ResourceKind::Role)
                },
            ),
            (
                "role fraud",
                Subject {
                    role: Some(&family),
                    ..of(ResourceKind::Role)
                },
            ),
            (
                "plan fraud",
                Subject {
                    role: Some(&family),
                    ..of(ResourceKind::Plan)
                },
            ),
            ("timing", of(ResourceKind::Timing)),
        ];
        let everything: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        let cases: &[(&str, &[&str])] = &[
            ("", &everything),
            ("kind=role", &["role global", "role fraud"]),
            ("kind=role kind=timing", &["role global", "role fraud", "timing"]),
            (
                "model=fraud.*",
                &[
                    "model fraud",
                    "alias fraud",
                    "replica fraud eu",
                    "role fraud",
                    "plan fraud",
                ],
            ),
            ("kind=role model=fraud.*", &["role fraud"]),
            ("model=fraud", &[]),
            ("region=eu", &["region eu", "replica fraud eu"]),
            (
                "region=*",
                &["region eu", "node us", "version churn us", "replica fraud eu"],
            ),
            ("region=u* kind=node", &["node us"]),
            ("role=primaries/*", &["role global", "role fraud", "plan fraud"]),
            ("role=primaries/global", &["role global"]),
            ("model=* region=eu", &["replica fraud eu"]),
            // It could be the family of a model that is called `global`.
            ("model=* role=*global", &["role global"]),
        ];
        for (text, expected) in cases {
            let filter = filter(text);
            assert_eq!(filter.is_everything(), text.is_empty());
            let taken = all.iter().filter(|(_, subject)| filter.takes(subject));
            let taken: Vec<_> = taken.map(|(name, _)| *name).collect();
            assert_eq!(taken, *expected, "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_any_part_of_a_name() {
        for (pattern, text, taken) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "a", true),
            ("*b*b", "abab", true),
            ("*ab*c*", "xabyyc", true),
            ("*ab*c*", "xacbyy", false),
            ("é*", "éa", true),
            ("*", "a.b", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "ab", true),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abcd", false),
            ("a*b*c", "a.b.c", true),
            ("a*b*c", "a.c.b", false),
            ("fraud.*", "fraud", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_of_form(pattern, text), taken, "{pattern} {text}");
        }
        assert!("".parse::<Pattern>().is_err());
        assert!("x".repeat(513).parse::<Pattern>().is_err());
        assert!("models".parse::<ResourceKind>().is_err());
        for kind in ResourceKind::ALL {
            assert_eq!(kind.to_string().parse::<ResourceKind>().unwrap(), kind);
        }
    }
}
