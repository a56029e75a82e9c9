//! Whom one call asks, one after the other, and what each of them said: from that follows when it is no use to go on,
//! and how the end is told.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Code, Status, transport::Channel};
use types::{
    reason::{Reason, Refusal},
    units::format_duration,
};

use crate::channel::Channels;

/// How long everybody must refuse connections until a call gives up: an address where nobody listens stays so, but for a
/// process that is just being started again.
pub(crate) const REFUSED_FOR: Duration = Duration::from_millis(500);

/// What came of asking a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It said something, yes or no.
    Answer,
    /// Nobody listens there.
    Refused,
    /// One end does not take the other for who it should be; the text says which and why. Nothing was sent.
    Distrust(String),
    /// Nothing, or not to the end.
    Nothing,
}

impl Heard {
    /// What a failed call says of the coordinator. A status with a source was made on this side of the wire, as was the
    /// one of a time limit, which the channel may notice before its caller.
    pub(crate) fn of(status: &Status) -> Self {
        let mut source = std::error::Error::source(status);
        let mut heard = match (source.is_some(), status.code()) {
            (true, _) | (false, Code::Cancelled) => Self::Nothing,
            (false, _) => Self::Answer,
        };
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                if io.kind() == std::io::ErrorKind::ConnectionRefused {
                    heard = Self::Refused;
                } else if let Some(why) = io.get_ref().and_then(|e| distrust(e.downcast_ref()?)) {
                    heard = Self::Distrust(why);
                }
            }
            source = cause.source();
        }
        heard
    }
}

/// What a handshake failed of, where one end did not trust the other's certificate. Such a handshake ends before anything
/// that was asked is read.
fn distrust(error: &rustls::Error) -> Option<String> {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(why) => {
            Some(format!("shows a certificate that is not trusted: {why}"))
        }
        rustls::Error::General(why) => Some(format!("is somebody else: {why}")),
        rustls::Error::AlertReceived(
            alert @ (Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::DecryptError
            | Alert::AccessDenied),
        ) => Some(format!("does not trust this caller's certificate ({alert:?})")),
        _ => None,
    }
}

/// The way of one call through the coordinators, round by round.
#[derive(Debug)]
pub(crate) struct Tour<'a> {
    channels: &'a Channels,
    want_leader: bool,
    queue: VecDeque<String>,
    heard: BTreeMap<String, Heard>,
    /// Since when nothing but refused connections and distrust was heard.
    vain_since: Option<Instant>,
}

impl<'a> Tour<'a> {
    /// A tour that begins with the believed leader, where the call wants it.
    pub(crate) fn new(channels: &'a Channels, want_leader: bool) -> Self {
        Self {
            channels,
            want_leader,
            queue: VecDeque::new(),
            heard: BTreeMap::new(),
            vain_since: None,
        }
    }

    /// The next one to ask; after the last of a round the next round begins.
    pub(crate) fn next(&mut self) -> Result<(String, Channel), Refusal> {
        if self.queue.is_empty() {
            self.queue = self.channels.order().into();
            if let Some(leader) = self.channels.leader().filter(|_| self.want_leader) {
                self.put_first(leader);
            }
        }
        let endpoint = self.queue.pop_front().unwrap_or_default();
        let channel = self.channels.open(&endpoint)?;
        Ok((endpoint, channel))
    }

    /// Somebody says that this one leads: it is asked next.
    pub(crate) fn hint(&mut self, leader: String) {
        self.channels.set_leader(&leader);
        self.put_first(leader);
    }

    fn put_first(&mut self, endpoint: String) {
        self.queue.retain(|e| *e != endpoint);
        self.queue.push_front(endpoint);
    }

    /// Takes in what came of asking `endpoint`.
    pub(crate) fn heard(&mut self, endpoint: &str, heard: Heard) {
        match &heard {
            Heard::Nothing => self.channels.ask_last(endpoint),
            Heard::Answer | Heard::Refused | Heard::Distrust(_) => self.channels.ask_in_turn(endpoint),
        }
        self.vain_since = match &heard {
            Heard::Refused | Heard::Distrust(_) => Some(self.vain_since.unwrap_or_else(Instant::now)),
            Heard::Answer | Heard::Nothing => None,
        };
        self.heard.insert(endpoint.to_owned(), heard);
    }

    /// Whether the next one can be asked at once: a refused connection, or a stranger, says nothing of the others.
    pub(crate) fn goes_on_at_once(&self, heard: &Heard) -> bool {
        matches!(heard, Heard::Refused | Heard::Distrust(_)) && !self.queue.is_empty()
    }

    /// Whether going on is no use: every coordinator has refused connections, or was none, for a while.
    pub(crate) fn is_vain(&self) -> bool {
        let known = self.channels.order();
        let vain = |e: &String| matches!(self.heard.get(e), Some(Heard::Refused | Heard::Distrust(_)));
        self.vain_since
            .is_some_and(|since| since.elapsed() >= REFUSED_FOR)
            && known.iter().all(vain)
    }

    /// Whether anybody said anything when it was asked last.
    pub(crate) fn is_answered(&self) -> bool {
        self.heard.values().any(|heard| *heard == Heard::Answer)
    }

    /// What the end of a call is where nobody answered it; as it was where somebody did.
    pub(crate) fn end(&self, refusal: Refusal, deadline: Duration) -> Refusal {
        if self.is_answered() || self.heard.is_empty() {
            return refusal;
        }
        let each: Vec<String> = self.heard.iter().map(|(e, heard)| told(e, heard)).collect();
        let any = |of: fn(&Heard) -> bool| self.heard.values().any(of);
        let (what, message) = if any(|heard| *heard == Heard::Nothing) {
            let deadline = format_duration(deadline);
            let message = format!("no final answer within {deadline}: {}", each.join(", "));
            ("silence", message)
        } else if any(|heard| matches!(heard, Heard::Distrust(_))) {
            let message = format!("no coordinator can be talked to: {}", each.join(", "));
            ("distrust", message)
        } else {
            let names: Vec<&str> = self.heard.keys().map(String::as_str).collect();
            let names = names.join(", ");
            let message = format!("no coordinator answers at {names}: connection refused");
            ("refused connections", message)
        };
        let reason = match refusal.reason {
            Reason::OutcomeUnknown => Reason::OutcomeUnknown,
            _ => Reason::Unreachable,
        };
        let refusal = Refusal {
            reason,
            message,
            ..refusal
        };
        refusal.with("heard", what)
    }
}

fn told(endpoint: &str, heard: &Heard) -> String {
    match heard {
        Heard::Answer => format!("{endpoint} answered"),
        Heard::Refused => format!("{endpoint} refuses connections"),
        Heard::Distrust(why) => format!("{endpoint} {why}"),
        Heard::Nothing => format!("{endpoint} is silent"),
    }
}
