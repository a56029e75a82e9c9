//! What reads and changes say besides what they want, and what a client checks of the answers: a coordinator of an older
//! version does not know all of it, and does not say so.
//!
//! Invariant: nothing that was only to be validated is sent to a cluster that may do it.

use std::{sync::atomic::Ordering, time::Duration};

use proto::v1 as pb;
use types::{
    Epoch, Revision,
    reason::{Reason, Refusal},
    units::format_duration,
};

use super::Client;
use crate::retry::mint_request_id;

/// The feature level from which on every coordinator knows every option of every change.
const KNOWS_OPTIONS: u32 = 2;

/// How fresh reads must be; by default linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    pub(super) allow_stale: bool,
    pub(super) max_staleness: Option<Duration>,
    pub(super) at_least: Revision,
}

impl Reads {
    pub(super) fn options(self) -> pb::ReadOptions {
        let max = self.max_staleness.map(|max| max.as_millis().max(1));
        pb::ReadOptions {
            // With a bound it would say less: an older coordinator would take it, and not the bound.
            allow_stale: self.allow_stale && max.is_none(),
            max_staleness_millis: max.map_or(0, |max| u64::try_from(max).unwrap_or(u64::MAX)),
            min_revision: self.at_least.0,
        }
    }

    /// That an answer is as fresh as was asked for.
    pub(super) fn check(self, header: Option<&pb::ResponseHeader>) -> Result<(), Refusal> {
        let Some(header) = header else { return Ok(()) };
        let age = Duration::from_millis(header.age_millis);
        let max = self
            .max_staleness
            .unwrap_or(Duration::MAX)
            .max(Duration::from_millis(1));
        if header.stale && age > max {
            let text = format!(
                "the answer is {} old, and at most {} was asked for: the coordinator is too old to know that bound",
                format_duration(age),
                format_duration(max)
            );
            return Err(Refusal::new(Reason::FeatureLevel, text).with("age_millis", header.age_millis));
        }
        let (at, wanted) = (Revision(header.revision), self.at_least);
        if at < wanted {
            let text = format!(
                "the answer is of {at}, and {wanted} was asked for: the coordinator is too old to wait for it"
            );
            return Err(Refusal::new(Reason::FeatureLevel, text).with("current", at.0));
        }
        Ok(())
    }
}

/// What a change says besides what it wants. Every one of them is refused by a change that cannot take it, never ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeOptions {
    /// Only if the record still is as it was at this revision: its `modified`. ETAG_MISMATCH otherwise.
    pub etag: Option<Revision>,
    /// Only if the role still is at this epoch. STALE_EPOCH otherwise.
    pub expected_epoch: Option<Epoch>,
    /// Decide and do nothing: refused where the change would be, else answered with the record as it would be.
    pub validate_only: bool,
}

/// Since when a kind of change takes an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Never,
    Always,
    FromLevel,
}

/// What a kind of change takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    etag: Takes,
    epoch: Takes,
    validate_only: bool,
}

impl Kind {
    const fn of(etag: Takes, epoch: Takes) -> Self {
        Self {
            etag,
            epoch,
            validate_only: true,
        }
    }
    /// An agent says what is.
    pub(super) const REPORT: Self = Self {
        etag: Takes::Never,
        epoch: Takes::Never,
        validate_only: false,
    };
    /// What it makes has no etag yet; or what it takes is named by something stronger.
    pub(super) const CREATE: Self = Self::of(Takes::Never, Takes::Never);
    /// Of a record that got etags with the options.
    pub(super) const RECORD: Self = Self::of(Takes::FromLevel, Takes::Never);
    /// Moved by compare-and-set from the first day.
    pub(super) const BY_ETAG: Self = Self::of(Takes::Always, Takes::Never);
    /// Of a role's settings.
    pub(super) const ROLE: Self = Self::of(Takes::FromLevel, Takes::FromLevel);
    /// Of a role's holder, which had its epoch from the first day.
    pub(super) const HOLDER: Self = Self::of(Takes::FromLevel, Takes::Always);
}

/// A change's options as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) request_id: String,
    pub(super) etag: String,
    pub(super) expected_epoch: u64,
    pub(super) validate_only: bool,
}

impl ChangeOptions {
    /// With an etag that a call names itself.
    pub(super) fn or_etag(mut self, etag: Option<Revision>) -> Self {
        self.etag = etag.or(self.etag);
        self
    }

    /// Whether the cluster must have come to the level that knows them; refused where this kind of change never takes one.
    fn needs_level(&self, kind: Kind) -> Result<bool, Refusal> {
        let needs = |is_said: bool, takes: Takes, what: &str| match (is_said, takes) {
            (false, _) | (true, Takes::Always) => Ok(false),
            (true, Takes::FromLevel) => Ok(true),
            (true, Takes::Never) => {
                let text = format!("this change takes no {what}");
                Err(Refusal::new(Reason::InvalidArgument, text).with("field", what))
            }
        };
        let validate = if kind.validate_only {
            Takes::FromLevel
        } else {
            Takes::Never
        };
        let etag = needs(self.etag.is_some(), kind.etag, "etag")?;
        let epoch = needs(self.expected_epoch.is_some(), kind.epoch, "expected_epoch")?;
        Ok(needs(self.validate_only, validate, "validate_only")? || etag || epoch)
    }
}

impl Client {
    /// The same connections for changes that say this besides what they want.
    #[must_use]
    pub fn with_change_options(&self, options: ChangeOptions) -> Self {
        Self {
            options,
            ..self.clone()
        }
    }

    /// The same connections with reads answered from local state where that is at most this old, and else by the quorum.
    #[must_use]
    pub fn with_max_staleness(&self, max: Duration) -> Self {
        let mut client = self.clone();
        client.reads.max_staleness = Some(max);
        client
    }

    /// The same connections with reads that see this revision at least: with that of one's own change, one's own writes at
    /// any coordinator, also in stale reads.
    #[must_use]
    pub fn with_min_revision(&self, revision: Revision) -> Self {
        let mut client = self.clone();
        client.reads.at_least = revision;
        client
    }

    /// What a change of this kind sends besides what it wants.
    pub(super) async fn said(&self, kind: Kind) -> Result<Said, Refusal> {
        self.said_with(kind, self.options).await
    }

    /// As [`Self::said`], with an etag that the call names itself.
    pub(super) async fn said_at(&self, kind: Kind, etag: Option<Revision>) -> Result<Said, Refusal> {
        self.said_with(kind, self.options.or_etag(etag)).await
    }

    async fn said_with(&self, kind: Kind, options: ChangeOptions) -> Result<Said, Refusal> {
        if options.needs_level(kind)? {
            let what = "validate_only, etags and expected epochs of this kind take";
            Box::pin(self.check_level(KNOWS_OPTIONS, what)).await?;
        }
        Ok(Said {
            request_id: self.request_id.unwrap_or_else(mint_request_id).to_string(),
            etag: options.etag.map(|r| r.0.to_string()).unwrap_or_default(),
            expected_epoch: options.expected_epoch.map_or(0, Epoch::as_u64),
            validate_only: options.validate_only,
        })
    }

    /// That every coordinator of the cluster knows what is about to be sent. The level only grows: asked until it is there.
    pub(super) async fn check_level(&self, needed: u32, what: &str) -> Result<(), Refusal> {
        if self.level.load(Ordering::Relaxed) >= needed {
            return Ok(());
        }
        let plain = Self {
            reads: Reads::default(),
            noted: None,
            ..self.clone()
        };
        let level = plain.feature_level().await?;
        self.level.store(level, Ordering::Relaxed);
        if level >= needed {
            return Ok(());
        }
        let text = format!(
            "the cluster is at feature level {level}, and {what} {needed}: upgrade every coordinator first"
        );
        let refusal = Refusal::new(Reason::FeatureLevel, text);
        Err(refusal.with("current", level).with("needs", needed))
    }

    /// That what was only to be validated was only validated.
    pub(crate) fn check_validated(&self, header: Option<&pb::ResponseHeader>) -> Result<(), Refusal> {
        let was_validated = header.is_some_and(|header| header.validated_only);
        if was_validated == self.options.validate_only {
            return Ok(());
        }
        let text = "the coordinator made the change, which was only to be validated: look at the state";
        Err(Refusal::new(Reason::Internal, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_a_change_cannot_take_is_refused_and_never_left_out() {
        let etag = ChangeOptions {
            etag: Some(Revision(9)),
            ..ChangeOptions::default()
        };
        let epoch = ChangeOptions {
            expected_epoch: Some(Epoch::new(1, 2)),
            ..ChangeOptions::default()
        };
        let validate = ChangeOptions {
            validate_only: true,
            ..ChangeOptions::default()
        };
        // Of each kind: the etag, the epoch, validate_only; refused, or whether the level is asked for.
        let (refused, always, level) = (None, Some(false), Some(true));
        for (kind, expected) in [
            (Kind::REPORT, [refused, refused, refused]),
            (Kind::CREATE, [refused, refused, level]),
            (Kind::RECORD, [level, refused, level]),
            (Kind::BY_ETAG, [always, refused, level]),
            (Kind::ROLE, [level, level, level]),
            (Kind::HOLDER, [level, always, level]),
        ] {
            let said = [etag, epoch, validate].map(|options| options.needs_level(kind).ok());
            assert_eq!(said, expected, "{kind:?}");
            assert_eq!(ChangeOptions::default().needs_level(kind), Ok(false));
        }
        let refusal = etag.needs_level(Kind::CREATE).unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.operand("field")),
            (Reason::InvalidArgument, Some("etag"))
        );
    }

    #[test]
    fn an_answer_that_is_less_fresh_than_asked_for_is_no_answer() {
        let reads = |max: Option<u64>, at_least| Reads {
            allow_stale: true,
            max_staleness: max.map(Duration::from_millis),
            at_least: Revision(at_least),
        };
        let header = |stale, age_millis, revision| pb::ResponseHeader {
            stale,
            age_millis,
            revision,
            ..pb::ResponseHeader::default()
        };
        for (reads, header, taken) in [
            (reads(None, 0), header(true, u64::MAX, 1), true),
            (reads(Some(5_000), 0), header(true, 5_000, 1), true),
            (reads(Some(5_000), 0), header(true, 5_001, 1), false),
            (reads(Some(5_000), 0), header(false, 0, 1), true),
            (reads(None, 9), header(true, 0, 9), true),
            (reads(None, 9), header(true, 0, 8), false),
        ] {
            assert_eq!(reads.check(Some(&header)).is_ok(), taken, "{reads:?} {header:?}");
        }
        // Without the bound an older coordinator would answer with whatever it has.
        let sent = reads(Some(5_000), 0).options();
        assert_eq!((sent.allow_stale, sent.max_staleness_millis), (false, 5_000));
        assert!(reads(None, 0).options().allow_stale);
    }
}
